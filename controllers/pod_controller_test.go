// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// connections stand in for the control service.
type connections struct {
	mu   sync.Mutex
	pods map[string]bool
}

func (c *connections) Connected(uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[uid]
}

func (c *connections) set(pod *corev1.Pod, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[string(pod.UID)] = on
}

// podStand is the reconciler in a namespace of its own, without a kubelet.
type podStand struct {
	*WithT
	t           *testing.T
	namespace   string
	client      client.Client
	connections *connections
	clock       *clock
	metrics     *prometheus.Registry
}

func newPodStand(t *testing.T) *podStand {
	t.Helper()
	s := &podStand{WithT: NewWithT(t), t: t, namespace: "n" + strconv.FormatInt(time.Now().UnixNano(), 36),
		connections: &connections{pods: map[string]bool{}}, clock: &clock{}, metrics: prometheus.NewRegistry()}
	s.Expect(plane.Namespace(t.Context(), s.namespace)).To(Succeed())
	var err error
	s.client, err = client.New(plane.Config(), client.Options{Scheme: scheme})
	s.Expect(err).NotTo(HaveOccurred())
	yes := true
	mgr, err := ctrl.NewManager(plane.Config(), ctrl.Options{Scheme: scheme, Cache: CacheOptions([]string{s.namespace}), Logger: logr.Discard(),
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &yes}})
	s.Expect(err).NotTo(HaveOccurred())
	s.Expect((&PodReconciler{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("webhook-operator"), Connections: s.connections,
		Version: "v2", Now: s.clock.now, Registerer: s.metrics}).SetupWithManager(mgr)).To(Succeed())
	(&stand{t: t}).run(mgr, func() {})
	return s
}

// pod makes a labelled pod; a version makes it an injected one.
func (s *podStand) pod(name, version string) *corev1.Pod {
	s.t.Helper()
	no := false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Labels: map[string]string{v1alpha1.LabelInject: "true"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}, AutomountServiceAccountToken: &no},
	}
	if version != "" {
		always := corev1.ContainerRestartPolicyAlways
		pod.Annotations = map[string]string{v1alpha1.AnnotationInjected: version}
		pod.Spec.InitContainers = []corev1.Container{{Name: v1alpha1.SidecarName, Image: "dispatcher", RestartPolicy: &always}}
	}
	s.Expect(s.client.Create(s.t.Context(), pod)).To(Succeed())
	return pod
}

// runs says what a kubelet would.
func (s *podStand) runs(pod *corev1.Pod, phase corev1.PodPhase) {
	s.t.Helper()
	base := pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: v1alpha1.SidecarName, Image: "dispatcher", ImageID: "i",
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(s.clock.now())}}}}
	s.Expect(s.client.Status().Patch(s.t.Context(), pod, client.MergeFrom(base))).To(Succeed())
}

// touch has the reconciler look at a pod now, as it does within a minute.
func (s *podStand) touch(all ...*corev1.Pod) {
	s.t.Helper()
	for _, pod := range all {
		base := pod.DeepCopy()
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, "touched", strconv.FormatInt(time.Now().UnixNano(), 36))
		s.Expect(s.client.Patch(s.t.Context(), pod, client.MergeFrom(base))).To(Succeed())
	}
}

func (s *podStand) until(want string) {
	s.t.Helper()
	s.Eventually(s.states).Should(Equal(want))
}

// states is the metric, without what is zero.
func (s *podStand) states() string {
	families, err := s.metrics.Gather()
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, m := range families[0].GetMetric() {
		if n := m.GetGauge().GetValue(); n != 0 {
			all = append(all, m.GetLabel()[0].GetValue()+"="+strconv.Itoa(int(n)))
		}
	}
	return strings.Join(all, " ")
}

// said are the Events about a pod: how many of each reason.
func (s *podStand) said(pod *corev1.Pod) map[string]int {
	s.t.Helper()
	list := &eventsv1.EventList{}
	s.Expect(s.client.List(s.t.Context(), list, client.InNamespace(s.namespace))).To(Succeed())
	reasons := map[string]int{}
	for i := range list.Items {
		if e := &list.Items[i]; e.Regarding.UID == pod.UID && e.Regarding.Kind == "Pod" {
			reasons[e.Reason]++
			if e.Series != nil {
				reasons[e.Reason] += int(e.Series.Count)
			}
		}
	}
	return reasons
}

func TestPodsSayWhatIsSeenOfTheirDispatcher(t *testing.T) {
	s := newPodStand(t)
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "unlabelled"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	s.Expect(s.client.Create(t.Context(), other)).To(Succeed())
	missing, outdated, hangs, good := s.pod("missing", ""), s.pod("outdated", "v1"), s.pod("hangs", "v2"), s.pod("good", "v2")
	s.until("injected=2 missing=1 outdated=1")
	for _, pod := range []*corev1.Pod{outdated, hangs, good} {
		s.runs(pod, corev1.PodRunning)
	}
	s.connections.set(outdated, true)
	s.connections.set(good, true)
	s.Consistently(s.states, "300ms").Should(Equal("injected=2 missing=1 outdated=1"), "nobody is disconnected at once")
	s.clock.forward(2 * time.Minute)
	s.touch(missing, outdated, good, hangs) // one after another: the change of the last says that all were looked at
	s.until("disconnected=1 injected=1 missing=1 outdated=1")

	// One that was connected goes, and comes back.
	s.connections.set(good, false)
	s.touch(good)
	s.Consistently(s.states, "300ms").Should(Equal("disconnected=1 injected=1 missing=1 outdated=1"))
	s.clock.forward(2 * time.Minute)
	s.touch(good, hangs, missing, outdated)
	s.until("disconnected=2 missing=1 outdated=1")
	s.connections.set(good, true)
	s.connections.set(hangs, true)
	s.touch(good, hangs)
	s.until("injected=2 missing=1 outdated=1")

	for pod, want := range map[*corev1.Pod]map[string]int{
		missing:  {"DispatcherMissing": 1},
		outdated: {"DispatcherOutdated": 1},
		hangs:    {"DispatcherNotConnected": 1},
		good:     {"DispatcherNotConnected": 1},
	} {
		s.Eventually(func() map[string]int { return s.said(pod) }).Should(Equal(want), pod.Name)
	}

	// What has ended, or is gone, is not counted.
	s.runs(good, corev1.PodSucceeded)
	s.until("injected=1 missing=1 outdated=1")
	none := int64(0)
	for _, pod := range []*corev1.Pod{missing, outdated, hangs} {
		s.Expect(s.client.Delete(t.Context(), pod, &client.DeleteOptions{GracePeriodSeconds: &none})).To(Succeed())
	}
	s.until("")
	again := s.pod("missing", "")
	s.until("missing=1")
	s.Eventually(func() map[string]int { return s.said(again) }).Should(Equal(map[string]int{"DispatcherMissing": 1}), "another pod of that name")
}

// fakePods gives out pods that miss their dispatcher, and takes Events.
type fakePods struct {
	client.Client
	events.EventRecorder
	said map[string]int
}

func (f *fakePods) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	o.SetNamespace(key.Namespace)
	o.SetName(key.Name)
	o.SetUID(types.UID("uid-" + key.Name))
	return nil
}

func (f *fakePods) Eventf(regarding, _ runtime.Object, _, _, _, _ string, _ ...any) {
	f.said[regarding.(*corev1.Pod).Name]++
}

func TestPodEventsArePacedAndNoneIsDropped(t *testing.T) {
	const pods = 100
	f, at := &fakePods{said: map[string]int{}}, time.Unix(1_000_000, 0)
	r := &PodReconciler{Client: f, Events: f, Connections: &connections{pods: map[string]bool{}}, Version: "v2",
		Now: func() time.Time { return at }, Registerer: prometheus.NewRegistry()}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	look := func() (later int) {
		for i := range pods {
			key := types.NamespacedName{Namespace: "n", Name: strconv.Itoa(i)}
			result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
			if err != nil {
				t.Fatal(err)
			}
			if result.RequeueAfter > 0 {
				later++
			}
		}
		return later
	}
	for i, want := range []int{podEventBurst, podEventBurst + 10, podEventBurst + 20} {
		if later := look(); later != pods-want || len(f.said) != want {
			t.Errorf("look %d: %d Events are said, and %d come again; want %d", i, len(f.said), later, want)
		}
		at = at.Add(5 * time.Second)
	}
	for range 10 {
		look()
		at = at.Add(10 * time.Second)
	}
	for name, n := range f.said {
		if n != 1 {
			t.Errorf("pod %s has %d Events", name, n)
		}
	}
	if later := look(); later != 0 || len(f.said) != pods {
		t.Errorf("%d Events are said, %d are left", len(f.said), later)
	}
}
