// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// bounds are what an annotation may ask for.
type bounds struct{ low, high resource.Quantity }

func between(low, high string) bounds {
	return bounds{resource.MustParse(low), resource.MustParse(high)}
}

var (
	sizeBounds   = between("128Mi", "16Ti")
	cpuBounds    = between("1m", "64")
	memoryBounds = between("32Mi", "64Gi")

	defaultSize = resource.MustParse("1Gi")
)

const (
	defaultGrace, maxGrace = 30, 24 * 60 * 60 // seconds
	maxQuantityLength      = 32
	// queueOverhead is what the queue takes beside 1.2 times its live bytes; below minQueueBytes it does not work.
	queueOverhead, minQueueBytes = 48 << 20, 16 << 20
)

// plan is what the pod shall get.
type plan struct {
	settings Settings
	// again says that a dispatcher of this version was injected before: what others did to it since then is kept.
	again bool

	size         resource.Quantity
	claim, class string // at most one of them; an emptyDir without
	// shared says that the kubelet sums up limits of ephemeral storage, in which our emptyDir counts.
	shared bool
	grace  int64
	// raise says that the pod's own grace period is shorter.
	raise bool

	cpu, memory, memoryLimit resource.Quantity
}

// annotations reads what a pod's annotations ask for.
type annotations struct {
	values  map[string]string
	refusal *Refusal
}

func annotationField(key string) string { return "metadata.annotations[" + key + "]" }

func (a annotations) refuse(key, format string, args ...any) {
	a.refusal.add(annotationField(key), format, args...)
}

// quantity is the annotation's value, or else the fallback and false. Values are not repeated in messages.
func (a annotations) quantity(key string, fallback resource.Quantity, b bounds) (resource.Quantity, bool) {
	text, found := a.values[key]
	if !found {
		return fallback, false
	}
	if len(text) <= maxQuantityLength {
		if value, err := resource.ParseQuantity(text); err == nil && value.Cmp(b.low) >= 0 && value.Cmp(b.high) <= 0 {
			return value, true
		}
	}
	a.refuse(key, "must be a quantity from %s to %s", b.low.String(), b.high.String())
	return fallback, false
}

func (a annotations) name(key, what string) string {
	name, found := a.values[key]
	if !found {
		return ""
	}
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		a.refuse(key, "must be the name of %s: lower-case letters, digits, '-' and '.'; remove it to have the queue on an emptyDir", what)
	}
	return name
}

func (a annotations) grace(pod *corev1.Pod) (seconds int64, raise bool) {
	seconds = defaultGrace
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		seconds = max(*own, 0)
	}
	text, found := a.values[v1alpha1.AnnotationGracePeriod]
	if !found {
		return seconds, false
	}
	wanted, err := strconv.ParseInt(text, 10, 64)
	if err != nil || wanted < 1 || wanted > maxGrace {
		a.refuse(v1alpha1.AnnotationGracePeriod, "must be a number of seconds from 1 to %d", maxGrace)
		return seconds, false
	}
	return max(seconds, wanted), wanted > seconds
}

func (a annotations) read(pod *corev1.Pod, p *plan) {
	s := p.settings
	p.size, _ = a.quantity(v1alpha1.AnnotationQueueSize, defaultSize, sizeBounds)
	p.claim = a.name(v1alpha1.AnnotationQueueClaim, "a PersistentVolumeClaim")
	p.class = a.name(v1alpha1.AnnotationQueueStorageClass, "a StorageClass")
	if p.claim != "" && p.class != "" {
		a.refuse(v1alpha1.AnnotationQueueStorageClass, "the queue is on the claim that %s names: remove one of the two", v1alpha1.AnnotationQueueClaim)
	}
	p.grace, p.raise = a.grace(pod)
	p.cpu, _ = a.quantity(v1alpha1.AnnotationCPURequest, s.CPURequest, cpuBounds)
	p.memory, p.memoryLimit = a.memoryOf(s)
}

// memoryOf is request and limit. Whoever says one of the two need not know the other's default.
func (a annotations) memoryOf(s Settings) (request, limit resource.Quantity) {
	request, asked := a.quantity(v1alpha1.AnnotationMemoryRequest, s.MemoryRequest, memoryBounds)
	limit, limited := a.quantity(v1alpha1.AnnotationMemoryLimit, s.MemoryLimit, memoryBounds)
	switch {
	case request.Cmp(limit) <= 0:
	case asked && limited:
		a.refuse(v1alpha1.AnnotationMemoryLimit, "must not be below %s: raise it, or lower the other", v1alpha1.AnnotationMemoryRequest)
	case asked:
		limit = request
	default:
		request = limit
	}
	return request, limit
}

// queueMaxBytes is 60 % of the volume, and less of a small one: on disk the queue takes 1.2 times that and an overhead.
func (p *plan) queueMaxBytes() int64 {
	size := p.size.Value()
	return max(minQueueBytes, min(size/5*3, (size-queueOverhead)/6*5))
}

// ownVolume says that the queue has a file system for itself.
func (p *plan) ownVolume() bool { return p.claim != "" || p.class != "" }

// reserveBytes is what a file system of the queue's own keeps free: the dispatcher's default would be all of a small one.
func (p *plan) reserveBytes() int64 { return min(64<<20, p.size.Value()/10) }

// drainSeconds leaves ten seconds of the grace period to the last report and to the closing of the queue.
func (p *plan) drainSeconds() int64 {
	grace := min(p.grace, maxGrace)
	return max(grace-10, grace/3)
}

func (p *plan) args() []string {
	args := append(slices.Clone(p.settings.Args),
		"--namespace=$(POD_NAMESPACE)",
		"--manager-address="+p.settings.ManagerAddress,
		"--queue-dir="+queuePath+"/queue",
		"--queue-max-bytes="+strconv.FormatInt(p.queueMaxBytes(), 10))
	if p.ownVolume() {
		args = append(args, "--queue-reserve-bytes="+strconv.FormatInt(p.reserveBytes(), 10))
	}
	if p.claim != "" {
		args = append(args, "--queue-outlives-pod")
	}
	return append(args, "--drain-timeout="+strconv.FormatInt(p.drainSeconds(), 10)+"s")
}

// OwnFlags are the dispatcher's flags that the injection sets by itself. Others that would break what it relies on,
// such as the ports of the probes, are among them.
func OwnFlags() []string {
	return strings.Fields("namespace listen health-listen queue-dir queue-max-bytes queue-reserve-bytes queue-outlives-pod " +
		"manager-address manager-ca-file token-file drain-timeout gateway")
}
