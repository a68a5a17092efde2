// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"context"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
)

const crdFolder = "../../config/crd/bases"

// The suite: one real API server with our CRDs, and a namespace for each test that leaves objects behind.
var (
	plane *controlplane.ControlPlane
	typed client.Client     // as a Go program of ours sees the objects
	plain dynamic.Interface // as a YAML file says them
)

var (
	endpoints    = v1alpha1.GroupVersion.WithResource("webhookendpoints")
	deliveries   = v1alpha1.GroupVersion.WithResource("deliveryattempts")
	redeliveries = v1alpha1.GroupVersion.WithResource("redeliveries")

	// resources are those of the kinds.
	resources = map[string]schema.GroupVersionResource{"WebhookEndpoint": endpoints, "DeliveryAttempt": deliveries, "Redelivery": redeliveries}
)

// cacheDir keeps kubectl's discovery cache away from the user's own.
var cacheDir string

func TestMain(m *testing.M) {
	controlplane.Main(m, func(ctx context.Context, c *controlplane.ControlPlane) error {
		plane, cacheDir = c, filepath.Join(filepath.Dir(c.Kubeconfig()), "kubectl-cache")
		if err := c.InstallCRDs(ctx, crdFolder); err != nil {
			return err
		}
		scheme := runtime.NewScheme()
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			return err
		}
		var err error
		if typed, err = client.New(c.Config(), client.Options{Scheme: scheme}); err != nil {
			return err
		}
		plain, err = dynamic.NewForConfig(c.Config())
		return err
	})
}

func namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	if err := plane.Namespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--kubeconfig", plane.Kubeconfig(), "--cache-dir", cacheDir}, args...)
	out, err := exec.CommandContext(t.Context(), plane.KubectlPath(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args[4:], " "), err, out)
	}
	return string(out)
}

// document is a YAML text with mutations merged into it: null removes a field, lists are replaced.
func document(t *testing.T, text string, mutations ...string) *unstructured.Unstructured {
	t.Helper()
	object := map[string]any{}
	for _, source := range append([]string{text}, mutations...) {
		var patch map[string]any
		if err := yaml.Unmarshal([]byte(source), &patch); err != nil {
			t.Fatalf("%v in:\n%s", err, source)
		}
		merge(object, patch)
	}
	return &unstructured.Unstructured{Object: object}
}

func merge(into, patch map[string]any) {
	for name, value := range patch {
		below, isMap := value.(map[string]any)
		old, wasMap := into[name].(map[string]any)
		switch {
		case value == nil:
			delete(into, name)
		case isMap && wasMap:
			merge(old, below)
		case isMap:
			into[name] = maps.Clone(below)
		default:
			into[name] = value
		}
	}
}

// row is a mutation of a valid object and what the API server says to it.
type row struct {
	name     string
	mutation string
	want     string // a part of the message; empty when it is accepted
}

// tryAll creates each row's object as kubectl does, without keeping it.
func tryAll(t *testing.T, resource schema.GroupVersionResource, valid string, rows []row) {
	t.Helper()
	seen := map[string]bool{}
	for _, tc := range rows {
		if seen[tc.name] {
			t.Errorf("two rows are named %q", tc.name)
		}
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			_, err := plain.Resource(resource).Namespace("default").Create(t.Context(), document(t, valid, tc.mutation),
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
			expect(t, err, tc.want)
		})
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want a refusal with %q", want)
	case want != "" && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
		t.Errorf("not a refusal of the object: %v", err)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("refused with\n  %v\nwant\n  %s", err, want)
	}
}
