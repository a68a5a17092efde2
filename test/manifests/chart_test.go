// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	root  = "../.."
	chart = root + "/charts/webhook-operator"
)

// The chart and config/ are two ways to the same objects.
func TestChartAndKustomizeRenderTheSame(t *testing.T) {
	for name, tc := range map[string]struct {
		overlay string
		values  []string
	}{
		"default":      {overlay: "config/default"},
		"with gateway": {overlay: "config/with-gateway", values: []string{"--set", "gateway.enabled=true"}},
	} {
		t.Run(name, func(t *testing.T) {
			fromChart, fromConfig := byName(t, helm(t, tc.values...)), byName(t, kustomize(t, tc.overlay))
			// The namespace is Helm's --create-namespace.
			delete(fromConfig, "Namespace /webhook-system")
			for id, want := range fromConfig {
				got, found := fromChart[id]
				if !found {
					t.Errorf("%s is not in the chart", id)
					continue
				}
				unstructured.RemoveNestedField(got.Object, "metadata", "annotations", "helm.sh/resource-policy")
				if diff := cmp.Diff(want.Object, got.Object); diff != "" {
					t.Errorf("%s (-config +chart):\n%s", id, diff)
				}
			}
			for id := range fromChart {
				if _, found := fromConfig[id]; !found {
					t.Errorf("%s is in the chart alone", id)
				}
			}
		})
	}
}

// Released elsewhere, nothing points to the namespace of config/.
func TestTheChartFollowsItsNamespace(t *testing.T) {
	out := string(helm(t, "--namespace", "elsewhere", "--set", "gateway.enabled=true"))
	for line := range strings.Lines(out) {
		if strings.Contains(line, "webhook-system") && !strings.Contains(line, "description:") {
			t.Errorf("%s", line)
		}
	}
	if strings.Count(out, "elsewhere") < 20 {
		t.Error("the namespace is not what was asked for")
	}
}

func TestCertManagerIsAskedForTheCertificate(t *testing.T) {
	objects := byName(t, helm(t, "--set", "injection.certificates.from=cert-manager"))
	for _, id := range []string{"Issuer webhook-system/webhook-manager-root", "Issuer webhook-system/webhook-manager-ca",
		"Certificate webhook-system/webhook-manager-ca", "Certificate webhook-system/webhook-manager-webhook"} {
		if objects[id] == nil {
			t.Errorf("no %s", id)
		}
	}
	if from := objects["MutatingWebhookConfiguration /webhook-manager"].GetAnnotations()["cert-manager.io/inject-ca-from"]; from != "webhook-system/webhook-manager-webhook" {
		t.Errorf("the CA is injected from %q", from)
	}
	if text := fmt.Sprint(objects["Deployment webhook-system/webhook-manager"].Object); !strings.Contains(text, "--inject-certificates=/var/run/webhook-manager") {
		t.Error("the manager does not read the certificate")
	}
}

func TestCRDsSurviveAnUninstall(t *testing.T) {
	found := 0
	for id, o := range byName(t, helm(t)) {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if found++; o.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s goes with the release", id)
		}
	}
	if found != 3 {
		t.Errorf("%d CRDs", found)
	}
}

// A manager of some namespaces has no right anywhere else but to what has no namespace.
func TestAManagerOfSomeNamespacesHasRightsThereAlone(t *testing.T) {
	objects := byName(t, helm(t, "--set", "namespaces={a,b}"))
	rules, _, err := unstructured.NestedSlice(objects["ClusterRole /webhook-manager"].Object, "rules")
	if err != nil || len(rules) == 0 {
		t.Fatalf("rules %v, %v", rules, err)
	}
	for _, rule := range rules {
		text := fmt.Sprint(rule)
		if !strings.Contains(text, "tokenreviews") && !strings.Contains(text, "mutatingwebhookconfigurations") {
			t.Errorf("everywhere: %s", text)
		}
	}
	all, _, err := unstructured.NestedSlice(byName(t, helm(t))["ClusterRole /webhook-manager"].Object, "rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"a", "b"} {
		role, found := objects["Role "+namespace+"/webhook-manager-served"]
		if !found {
			t.Fatalf("no Role in %s", namespace)
		}
		served, _, err := unstructured.NestedSlice(role.Object, "rules")
		if err != nil || len(served)+len(rules) != len(all) {
			t.Errorf("%d rules in %s and %d everywhere, want %d together: %v", len(served), namespace, len(rules), len(all), err)
		}
	}
}

func TestValuesAreChecked(t *testing.T) {
	for name, tc := range map[string]struct{ value, want string }{
		"a word for a number":  {"manager.replicas=two", "/manager/replicas"},
		"an unknown value":     {"manager.replica=2", "/manager"},
		"an address, no range": {"egressAllow={10.0.0.1}", "/egressAllow/0"},
		"a proxy with a user":  {"egressProxy=http://user@proxy:3128", "/egressProxy"},
		"an unknown source":    {"injection.certificates.from=vault", "/injection/certificates/from"},
		"a size without sense": {"gateway.queue.size=ten", "/gateway/queue/size"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := template("--set", tc.value)
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("%v\n%s\nwant a refusal of %s", err, out, tc.want)
			}
		})
	}
}

func TestTheQueueTakesSixtyPercentOfItsVolume(t *testing.T) {
	for size, want := range map[string]string{"10Gi": "6442450944", "500Mi": "314572800", "1000000000": "600000000", "2T": "1200000000000"} {
		out := string(helm(t, "--set", "gateway.enabled=true", "--set-string", "gateway.queue.size="+size))
		if !strings.Contains(out, "--queue-max-bytes="+want+"\n") {
			t.Errorf("a volume of %s has no queue of %s bytes", size, want)
		}
	}
}

func helm(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := template(args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, out)
	}
	return out
}

func template(args ...string) ([]byte, error) {
	tools, err := filepath.Glob(root + "/bin/helm-v*")
	if err != nil || len(tools) == 0 {
		return nil, fmt.Errorf("helm is not in bin/: run make tools (%w)", err)
	}
	args = append([]string{"template", "webhook-operator", chart, "--namespace", "webhook-system"}, args...)
	return exec.Command(tools[len(tools)-1], args...).CombinedOutput()
}

func kustomize(t *testing.T, overlay string) []byte {
	t.Helper()
	kubectl := filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl")
	out, err := exec.Command(kubectl, "kustomize", filepath.Join(root, overlay)).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v\n%s", err, out)
	}
	return out
}

// byName reads objects; each may be there once.
func byName(t *testing.T, manifests []byte) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) == 0 {
			continue
		}
		id := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if _, twice := all[id]; twice {
			t.Errorf("%s is there twice", id)
		}
		all[id] = &unstructured.Unstructured{Object: maps.Clone(o.Object)}
	}
}
