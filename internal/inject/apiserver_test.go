// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
)

// TestTheAPIServerAcceptsWhatIsInjected asks a real one, in a namespace with Pod Security "restricted". It starts the
// control plane by itself, so that workers of the fuzz target start none.
func TestTheAPIServerAcceptsWhatIsInjected(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	c, err := client.New(plane.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	restrictedNamespace(t, plane, "team-a")
	for _, name := range []string{"plain", "sidecars", "claim", "stateful", "storage_class", "resources"} {
		t.Run(name, func(t *testing.T) {
			mutated, err := Mutate(readPod(t, "testdata/"+name+".yaml"), "team-a", settings())
			if err != nil {
				t.Fatal(err)
			}
			accepted := create(t, c, mutated)
			checkNothingDropped(t, mutated, accepted)
			checkAPIToken(t, accepted)
			// With the API server's defaults in it, the pod is left alone.
			again, err := Mutate(accepted, "team-a", settings())
			if err != nil || !equal(t, accepted, again) {
				t.Errorf("a second time: %v (-accepted +again):\n%s", err, cmp.Diff(string(accepted), string(again)))
			}
		})
	}
}

func restrictedNamespace(t *testing.T, plane *controlplane.ControlPlane, name string) {
	t.Helper()
	if err := plane.Namespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	typed, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := typed.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if _, err := typed.CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// create is `kubectl create --dry-run=server --validate=strict`.
func create(t *testing.T, c client.Client, raw []byte) []byte {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	o.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	o.SetNamespace("team-a")
	if err := c.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}
	accepted, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return accepted
}

// checkNothingDropped compares what we put in with the same part of what the API server made of it.
func checkNothingDropped(t *testing.T, mutated, accepted []byte) {
	t.Helper()
	want, got := specOf(t, mutated), specOf(t, accepted)
	last := got.InitContainers[len(got.InitContainers)-1]
	sidecar := want.InitContainers[len(want.InitContainers)-1]
	sidecar.TerminationMessagePath, sidecar.TerminationMessagePolicy = last.TerminationMessagePath, last.TerminationMessagePolicy
	sidecar.ImagePullPolicy = corev1.PullIfNotPresent
	if storage, limited := sidecar.Resources.Limits[corev1.ResourceEphemeralStorage]; limited {
		sidecar.Resources.Requests[corev1.ResourceEphemeralStorage] = storage
	}
	if diff := cmp.Diff(sidecar, last); diff != "" {
		t.Errorf("our container differs (-sent +accepted):\n%s", diff)
	}
	for _, v := range want.Volumes {
		if ours(v.Name) && !slices.ContainsFunc(got.Volumes, func(o corev1.Volume) bool { return cmp.Equal(o, v) }) {
			t.Errorf("volume %s is not as it was sent", v.Name)
		}
	}
	if !cmp.Equal(want.TerminationGracePeriodSeconds, got.TerminationGracePeriodSeconds) && want.TerminationGracePeriodSeconds != nil {
		t.Errorf("grace period is %d", *got.TerminationGracePeriodSeconds)
	}
	if want.SecurityContext != nil && !cmp.Equal(want.SecurityContext, got.SecurityContext) {
		t.Errorf("security context is %+v", got.SecurityContext)
	}
}

func specOf(t *testing.T, raw []byte) corev1.PodSpec {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, pod); err != nil {
		t.Fatal(err)
	}
	return pod.Spec
}

// checkAPIToken: the app has the token of the API server, the dispatcher has an empty folder in its place.
func checkAPIToken(t *testing.T, accepted []byte) {
	t.Helper()
	spec := specOf(t, accepted)
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, m := range c.VolumeMounts {
			if m.MountPath == apiTokenPath && (c.Name == v1alpha1.SidecarName) != (m.Name == noTokenVolume) {
				t.Errorf("container %s has volume %s at %s", c.Name, m.Name, m.MountPath)
			}
			if ours(m.Name) && c.Name != v1alpha1.SidecarName {
				t.Errorf("container %s has volume %s", c.Name, m.Name)
			}
		}
	}
}
