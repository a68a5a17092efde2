// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inject puts the dispatcher into a pod, as a native sidecar. It is pure: a pod's JSON and settings in, the
// pod's JSON with the sidecar or a refusal out. It commits nothing.
//
// The pod is judged as a typed object and changed as raw JSON, so that fields which this version does not know survive.
// Applied to its own result it changes nothing. What others put into our container after us, such as the default limits
// of a LimitRange, is kept as long as it was this version that injected the container; an older one is replaced.
package inject

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// Settings are the operator's part, the same for all pods.
type Settings struct {
	// Image and PullPolicy are those of the dispatcher; an empty policy is the API server's default.
	Image      string
	PullPolicy corev1.PullPolicy
	// Version is the dispatcher's; it is written into v1alpha1.AnnotationInjected.
	Version string
	// ManagerAddress is the host:port of the control service, as pods reach it.
	ManagerAddress string
	// Args stand before the arguments that the injection makes. Of a flag that is given twice, the last one counts.
	Args []string
	// Serves says for which namespaces the manager works; nil for all.
	Serves func(namespace string) bool
	// CPURequest, MemoryRequest and MemoryLimit hold for pods that do not say their own.
	CPURequest    resource.Quantity
	MemoryRequest resource.Quantity
	MemoryLimit   resource.Quantity
}

// DefaultSettings have the resources of a dispatcher with a million waiting deliveries. There is no limit of CPU: it
// would slow the app's own requests down, which wait for the sync of the queue.
func DefaultSettings() Settings {
	return Settings{CPURequest: resource.MustParse("50m"), MemoryRequest: resource.MustParse("64Mi"),
		MemoryLimit: resource.MustParse("256Mi")}
}

// Problem is one reason for a refusal: a field of the pod, what is wrong with it, and what to do.
type Problem struct{ Field, Text string }

// Refusal says why a pod cannot have the dispatcher. Its message is for whoever wrote the pod.
type Refusal struct{ Problems []Problem }

func (r *Refusal) Error() string {
	texts := make([]string, 0, len(r.Problems))
	for _, p := range r.Problems {
		texts = append(texts, p.Field+": "+p.Text)
	}
	return "the webhook dispatcher cannot be injected: " + strings.Join(texts, "; ")
}

func (r *Refusal) add(field, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{field, fmt.Sprintf(format, args...)})
}

// Mutate returns the pod with the dispatcher in it. The namespace is the request's: a pod need not name its own when it
// is created. A pod without v1alpha1.LabelInject is returned as it is. The error
// is a *Refusal when the pod has to be another one; any other says that raw is no pod.
func Mutate(raw []byte, namespace string, s Settings) ([]byte, error) {
	pod := &corev1.Pod{}
	if err := utiljson.Unmarshal(raw, pod); err != nil {
		return nil, fmt.Errorf("read the pod: %w", err)
	}
	if pod.Labels[v1alpha1.LabelInject] != "true" {
		return raw, nil
	}
	plan, err := judge(pod, namespace, s)
	if err != nil {
		return nil, err
	}
	object, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read the pod: %w", err)
	}
	if err := plan.apply(object); err != nil {
		return nil, fmt.Errorf("change the pod: %w", err)
	}
	return encode(object)
}
