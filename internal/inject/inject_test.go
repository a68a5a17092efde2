// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

func settings() Settings {
	s := DefaultSettings()
	s.Image, s.Version, s.ManagerAddress = "webhook-operator/dispatcher:v1.2.3", "v1.2.3", "webhook-manager-control.webhook-system.svc:9443"
	s.Args = []string{"--egress-allow=10.0.0.0/8"}
	return s
}

// readPod is a YAML file as JSON.
func readPod(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func podFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".golden.yaml") })
	if len(files) == 0 {
		t.Fatal("there are no pods in testdata")
	}
	return files
}

func TestMutate(t *testing.T) {
	for _, file := range podFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			original := readPod(t, file)
			mutated, err := Mutate(original, "team-a", settings())
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, strings.TrimSuffix(file, ".yaml")+".golden.yaml", mutated)
			checkMutation(t, original, mutated)
		})
	}
}

func compareGolden(t *testing.T, file string, mutated []byte) {
	t.Helper()
	got, err := yaml.JSONToYAML(mutated)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; see the -update flag (-want +got):\n%s", file, diff)
	}
}

// checkMutation holds what is true of every mutation.
func checkMutation(t *testing.T, original, mutated []byte) {
	t.Helper()
	again, err := Mutate(mutated, "team-a", settings())
	if err != nil {
		t.Fatalf("a second time: %v", err)
	}
	if !equal(t, mutated, again) {
		t.Errorf("a second time it differs:\n%s\n%s", mutated, again)
	}
	response := admission.PatchResponseFromRaw(mutated, again)
	if len(response.Patches) > 0 {
		t.Errorf("a second time there is a patch: %v", response.Patches)
	}
	if patched := patch(t, original, mutated); !equal(t, patched, mutated) {
		t.Errorf("the patch makes\n%s\ninstead of\n%s", patched, mutated)
	}
}

func equal(t *testing.T, a, b []byte) bool {
	t.Helper()
	left, err := decode(a)
	right, err2 := decode(b)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return cmp.Equal(left, right)
}

// patch goes the way of the API server: the difference as a JSON patch, applied with the library that it uses.
func patch(t *testing.T, original, mutated []byte) []byte {
	t.Helper()
	response := admission.PatchResponseFromRaw(original, mutated)
	if err := response.Complete(admission.Request{}); err != nil {
		t.Fatal(err)
	}
	if len(response.Patch) == 0 {
		return original
	}
	decoded, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply(original)
	if err != nil {
		t.Fatalf("%v in %s", err, response.Patch)
	}
	return patched
}

func TestAPodThatDoesNotAskIsLeftAlone(t *testing.T) {
	for name, raw := range map[string]string{
		"no label":      `{"spec": {"hostNetwork": true}}`,
		"another value": `{"metadata": {"labels": {"webhooks.gary.club/inject": "false"}}}`,
	} {
		got, err := Mutate([]byte(raw), "team-a", settings())
		if err != nil || string(got) != raw {
			t.Errorf("%s: %v, %s", name, err, got)
		}
	}
}

func TestWhatIsNoPod(t *testing.T) {
	const label = `"metadata": {"labels": {"webhooks.gary.club/inject": "true"}}`
	for name, raw := range map[string]string{
		"nothing":               "",
		"a list":                "[]",
		"two":                   `{` + label + `}{}`,
		"containers of strings": `{` + label + `, "spec": {"containers": ["a"]}}`,
		"a container of null":   `{` + label + `, "spec": {"containers": [null]}}`,
		"a spec of text":        `{` + label + `, "spec": "a"}`,
	} {
		got, err := Mutate([]byte(raw), "team-a", settings())
		var refusal *Refusal
		if err == nil || errors.As(err, &refusal) {
			t.Errorf("%s: error is %v, result %s", name, err, got)
		}
	}
}

func TestQueueMaxBytes(t *testing.T) {
	for size, want := range map[string]int64{
		"1Gi":   644245092, // 60 %
		"128Mi": 69905065,  // less than 60 %, for what a queue takes besides
		"16Ti":  10555311626649,
	} {
		p := &plan{size: between(size, size).low}
		got := p.queueMaxBytes()
		if got != want {
			t.Errorf("of %s it is %d, want %d", size, got, want)
		}
	}
	for mib := int64(68); mib < 2048; mib++ {
		p := &plan{}
		p.size.Set(mib << 20)
		// See docs/operations.md, Size of the queue.
		if onDisk := p.queueMaxBytes()*6/5 + queueOverhead; onDisk > mib<<20 {
			t.Fatalf("of %d MiB the queue takes %d bytes", mib, onDisk)
		}
	}
}

func TestDrainSeconds(t *testing.T) {
	for grace, want := range map[int64]int64{0: 0, 1: 0, 10: 3, 15: 5, 30: 20, 3600: 3590, 1 << 62: maxGrace - 10} {
		if got := (&plan{grace: grace}).drainSeconds(); got != want {
			t.Errorf("of %d s it is %d, want %d", grace, got, want)
		}
	}
}

func TestThePullPolicyIsPassedOn(t *testing.T) {
	s := settings()
	s.PullPolicy = corev1.PullNever
	mutated, err := Mutate(readPod(t, "testdata/plain.yaml"), "team-a", s)
	if err != nil || !strings.Contains(string(mutated), `"imagePullPolicy":"Never"`) {
		t.Errorf("%v: %s", err, mutated)
	}
}
