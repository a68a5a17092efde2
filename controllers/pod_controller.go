// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch

// The reasons of Events on pods.
const (
	reasonDispatcherMissing      = "DispatcherMissing"
	reasonDispatcherOutdated     = "DispatcherOutdated"
	reasonDispatcherNotConnected = "DispatcherNotConnected"
)

// Connections knows which pods have a dispatcher that is connected; control.Server does.
type Connections interface {
	Connected(podUID string) bool
}

// Events on pods are paced: after an upgrade there is one to say of each pod.
const (
	podEventRate  = 2 // a second
	podEventBurst = 20
)

// PodReconciler looks at labelled pods: whether the dispatcher was injected, is of the manager's version, and connected.
// It says so in a metric, and in an Event for each pod and state, at a pace. It writes nothing else and remembers all it knows in
// memory, so that the next leader finds the same and says it once more.
type PodReconciler struct {
	client.Client
	Events      events.EventRecorder
	Connections Connections
	// Version is the manager's.
	Version string
	// Now is time.Now by default.
	Now func() time.Time
	// Registerer takes the metrics; controller-runtime's by default.
	Registerer prometheus.Registerer

	gauge *prometheus.GaugeVec
	pace  *rate.Limiter

	mu   sync.Mutex
	pods map[types.NamespacedName]*podNote
}

// podNote is what is remembered of one pod, of which there is one reconciliation at a time.
type podNote struct {
	uid    types.UID
	state  podState // empty before it was judged
	silent time.Time
	said   map[podState]bool
}

// SetupWithManager adds the reconciler to a manager whose cache has CacheOptions.
func (r *PodReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := r.prepare(); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("pod").For(&corev1.Pod{}).Complete(r)
}

func (r *PodReconciler) prepare() error {
	if r.Events == nil || r.Connections == nil || r.Version == "" {
		return errors.New("pods: Events, Connections and Version are needed")
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Registerer == nil {
		r.Registerer = metrics.Registry
	}
	r.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_manager_pods",
		Help: "Pods that are to have a dispatcher, by what is seen of it."}, []string{"state"})
	for _, s := range podStates {
		r.gauge.WithLabelValues(string(s))
	}
	if err := r.Registerer.Register(r.gauge); err != nil {
		return fmt.Errorf("register the metric of pods: %w", err)
	}
	r.pods, r.pace = map[types.NamespacedName]*podNote{}, rate.NewLimiter(podEventRate, podEventBurst)
	return nil
}

// Reconcile judges one pod, and comes back within a minute: that a dispatcher has gone is seen by nothing else.
func (r *PodReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pod := &corev1.Pod{}
	err := r.Get(ctx, request.NamespacedName, pod)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read pod: %w", err)
	}
	if gone := apierrors.IsNotFound(err); gone || !judged(pod) {
		r.forget(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	note := r.note(request.NamespacedName, pod.UID)
	state := judgePod(r.facts(pod, note), r.Version, r.Now())
	r.count(note, state)
	if !r.tell(pod, note) {
		return ctrl.Result{RequeueAfter: time.Second + rand.N(connectTime)}, nil // at random, so that not all come at once
	}
	if state == podMissing {
		return ctrl.Result{}, nil // containers are never added to a pod
	}
	return ctrl.Result{RequeueAfter: connectTime}, nil
}

func (r *PodReconciler) facts(pod *corev1.Pod, note *podNote) podFacts {
	f := podFacts{injected: hasSidecar(pod), version: pod.Annotations[v1alpha1.AnnotationInjected], began: begun(pod),
		connected: r.Connections.Connected(string(pod.UID))}
	switch {
	case f.connected:
		note.silent = time.Time{}
	case note.silent.IsZero():
		note.silent = r.Now()
	}
	f.silent = note.silent
	return f
}

// note finds or begins what is remembered of a pod; another pod of the name takes its place.
func (r *PodReconciler) note(key types.NamespacedName, uid types.UID) *podNote {
	r.mu.Lock()
	n := r.pods[key]
	r.mu.Unlock()
	if n != nil && n.uid == uid {
		return n
	}
	r.forget(key)
	n = &podNote{uid: uid, said: map[podState]bool{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[key] = n
	return n
}

func (r *PodReconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	n := r.pods[key]
	delete(r.pods, key)
	r.mu.Unlock()
	if n != nil {
		r.count(n, "")
	}
}

// count moves a pod from one state to another.
func (r *PodReconciler) count(n *podNote, state podState) {
	if n.state == state {
		return
	}
	if n.state != "" {
		r.gauge.WithLabelValues(string(n.state)).Dec()
	}
	if n.state = state; state != "" {
		r.gauge.WithLabelValues(string(state)).Inc()
	}
}

// tell writes one Event for each state that a person should know of. It returns false when that is still to be said.
func (r *PodReconciler) tell(pod *corev1.Pod, n *podNote) bool {
	about, worth := podNews(pod, n.state, r.Version)
	if !worth || n.said[n.state] {
		return true
	}
	if !r.pace.AllowN(r.Now(), 1) {
		return false
	}
	n.said[n.state] = true
	r.Events.Eventf(pod, nil, about.kind, about.reason, "Watch", "%s", about.note)
	return true
}

func podNews(pod *corev1.Pod, state podState, version string) (news, bool) {
	switch state {
	case podMissing:
		return news{corev1.EventTypeWarning, reasonDispatcherMissing, fmt.Sprintf("the pod has the label %s but no container %s: "+
			"it was created before the label was set, or past the injection; create it again", v1alpha1.LabelInject, v1alpha1.SidecarName)}, true
	case podOutdated:
		return news{corev1.EventTypeNormal, reasonDispatcherOutdated, fmt.Sprintf("the dispatcher is of version %s, the manager of %s: "+
			"it is replaced when the pod is created again", shownVersion(pod), version)}, true
	case podDisconnected:
		return news{corev1.EventTypeWarning, reasonDispatcherNotConnected, fmt.Sprintf("the dispatcher is not connected to the manager: "+
			"it delivers by the endpoints that it knows, and nothing of it is recorded; see the log of the container %s", v1alpha1.SidecarName)}, true
	}
	return news{}, false
}

// shownVersion bounds what stands in an annotation, which anybody may have written.
func shownVersion(pod *corev1.Pod) string {
	const longest = 64
	v := pod.Annotations[v1alpha1.AnnotationInjected]
	switch {
	case v == "":
		return "unknown"
	case len(v) > longest:
		return fmt.Sprintf("%.64q", v)
	}
	return v
}
