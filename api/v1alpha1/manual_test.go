// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const (
	docsFolder    = "../../docs/spec/v1alpha1"
	samplesFolder = "../../config/samples"
)

// wantBounds has the least and the most characters or items of each string and list.
const wantBounds = `
DeliveryAttempt.spec.endpointRef.name 1 253
DeliveryAttempt.spec.event.agentID 0 128
DeliveryAttempt.spec.event.callID 0 128
DeliveryAttempt.spec.event.id 1 64
DeliveryAttempt.spec.event.type 1 80
DeliveryAttempt.spec.payload.sha256 0 64
DeliveryAttempt.spec.redelivery 0 253
DeliveryAttempt.status.attempts 0 16
DeliveryAttempt.status.attempts.message 0 512
DeliveryAttempt.status.conditions 0 8
DeliveryAttempt.status.queueID 0 128
DeliveryAttempt.status.reason 0 64
Redelivery.spec.callIDs 0 100
Redelivery.spec.callIDs[] 1 128
Redelivery.spec.endpointRef.name 1 253
Redelivery.spec.eventIDs 0 100
Redelivery.spec.eventIDs[] 1 64
Redelivery.spec.requestedBy 0 1024
Redelivery.status.conditions 0 8
Redelivery.status.results 0 100
Redelivery.status.results.queueID 1 128
WebhookEndpoint.spec.agents 0 100
WebhookEndpoint.spec.agents[] 1 128
WebhookEndpoint.spec.displayName 0 128
WebhookEndpoint.spec.events 1 32
WebhookEndpoint.spec.events[] 0 71
WebhookEndpoint.spec.headers 0 20
WebhookEndpoint.spec.headers.name 1 64
WebhookEndpoint.spec.headers.value 0 2048
WebhookEndpoint.spec.headers.valueFrom.secretKeyRef.key 1 253
WebhookEndpoint.spec.headers.valueFrom.secretKeyRef.name 1 253
WebhookEndpoint.spec.signing.secretRef.name 1 253
WebhookEndpoint.spec.successCodes 1 16
WebhookEndpoint.spec.successCodes[] 0 3
WebhookEndpoint.spec.test.event 0 71
WebhookEndpoint.spec.tls.caSecretRef.key 1 253
WebhookEndpoint.spec.tls.caSecretRef.name 1 253
WebhookEndpoint.spec.tls.clientCertificateSecretRef.name 1 253
WebhookEndpoint.spec.tls.serverName 1 253
WebhookEndpoint.spec.url 1 2048
WebhookEndpoint.spec.urlFrom.secretKeyRef.key 1 253
WebhookEndpoint.spec.urlFrom.secretKeyRef.name 1 253
WebhookEndpoint.status.certificate.issuer 0 256
WebhookEndpoint.status.conditions 0 16
WebhookEndpoint.status.host 0 262
WebhookEndpoint.status.signing.secretName 0 253
WebhookEndpoint.status.test.event 0 80
WebhookEndpoint.status.test.hash 0 64
WebhookEndpoint.status.test.message 0 512
WebhookEndpoint.status.test.requested 0 256
`

var metav1Codecs = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()

func schemas(t *testing.T) map[string]apiextensionsv1.JSONSchemaProps {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(crdFolder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	all := map[string]apiextensionsv1.JSONSchemaProps{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		all[crd.Spec.Names.Kind] = *crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	return all
}

// walk visits every property. theirs says that it is of a type which is not ours.
func walk(path string, s apiextensionsv1.JSONSchemaProps, visit func(path, name string, s apiextensionsv1.JSONSchemaProps, theirs bool)) {
	for name, p := range s.Properties {
		at := path + "." + name
		theirs := strings.Contains(at, ".conditions.") || !strings.HasPrefix(at, path[:strings.IndexByte(path+".", '.')]+".spec") &&
			!strings.HasPrefix(at, path[:strings.IndexByte(path+".", '.')]+".status")
		visit(at, name, p, theirs)
		below := p
		if p.Items != nil {
			below = *p.Items.Schema
		}
		walk(at, below, visit)
	}
}

func TestEveryFieldIsExplained(t *testing.T) {
	for kind, schema := range schemas(t) {
		fields := 0
		walk(kind, schema, func(path, name string, s apiextensionsv1.JSONSchemaProps, theirs bool) {
			fields++
			switch {
			case path == kind+".metadata": // the API server explains it
			case s.Description == "":
				t.Errorf("%s has no description", path)
			case !theirs && !strings.HasPrefix(s.Description, name+" "):
				t.Errorf("the description of %s does not begin with its name: %s", path, s.Description)
			}
			if strings.Contains(path, ".spec.") && s.Default != nil && !strings.Contains(s.Description, "Default") && kind != "DeliveryAttempt" {
				t.Errorf("the description of %s does not say its default, %s", path, s.Default.Raw)
			}
			if kind != "DeliveryAttempt" && strings.HasPrefix(path, kind+".spec.") && !strings.Contains(s.Description, "Example") {
				t.Errorf("the description of %s has no example", path)
			}
		})
		if fields < 25 {
			t.Errorf("%s: only %d fields were looked at", kind, fields)
		}
	}
}

// Without bounds, the API server has to assume the worst of each rule, and one object could be as large as etcd takes.
// A bound that changes is a change of the API: it is made here as well.
func TestEveryFieldIsBounded(t *testing.T) {
	var got []string
	for kind, schema := range schemas(t) {
		walk(kind, schema, func(path, _ string, s apiextensionsv1.JSONSchemaProps, theirs bool) {
			if theirs {
				return
			}
			got = append(got, bounds(path, s)...)
			if s.Type == "array" {
				if s.XListType == nil {
					t.Errorf("%s has no list type", path)
				}
				got = append(got, bounds(path+"[]", *s.Items.Schema)...)
			}
		})
	}
	slices.Sort(got)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(wantBounds), "\n"), got); diff != "" {
		t.Errorf("bounds (-want +got):\n%s", diff)
	}
}

// bounds is a line for a string's or a list's length. Words of a closed set and times are bounded by what they are.
func bounds(path string, s apiextensionsv1.JSONSchemaProps) []string {
	least, most := s.MinLength, s.MaxLength
	switch {
	case s.Type == "array":
		least, most = s.MinItems, s.MaxItems
	case s.Type != "string", len(s.Enum) > 0, s.Format == "date-time":
		return nil
	}
	return []string{fmt.Sprintf("%s %d %d", path, deref(least, 0), deref(most, -1))}
}

func deref(n *int64, absent int64) int64 {
	if n == nil {
		return absent
	}
	return *n
}

// The enums of the schema and the constants are the same words.
func TestConstantsAreTheEnums(t *testing.T) {
	all := schemas(t)
	for path, want := range map[string][]string{
		"WebhookEndpoint.spec.signing.deletionPolicy": {string(v1alpha1.DeletionPolicyRetain), string(v1alpha1.DeletionPolicyDelete)},
		"WebhookEndpoint.spec.test.when":              {string(v1alpha1.TestOnChange), string(v1alpha1.TestOnRequest)},
		"WebhookEndpoint.status.test.outcome":         attemptOutcomes(),
		"DeliveryAttempt.status.attempts.outcome":     attemptOutcomes(),
		"DeliveryAttempt.spec.trigger":                {string(v1alpha1.TriggerEvent), string(v1alpha1.TriggerTest), string(v1alpha1.TriggerRedelivery)},
		"DeliveryAttempt.status.outcome": {string(v1alpha1.DeliveryPending), string(v1alpha1.DeliveryRetrying),
			string(v1alpha1.DeliveryDelivered), string(v1alpha1.DeliveryFailed)},
	} {
		kind, _, _ := strings.Cut(path, ".")
		found := false
		walk(kind, all[kind], func(at, _ string, s apiextensionsv1.JSONSchemaProps, _ bool) {
			if at != path {
				return
			}
			found = true
			var got []string
			for _, value := range s.Enum {
				word, err := strconv.Unquote(string(value.Raw))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, word)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s has the values %v, want %v", path, got, want)
			}
		})
		if !found {
			t.Errorf("there is no %s", path)
		}
	}
}

func attemptOutcomes() []string {
	return []string{string(v1alpha1.OutcomeDelivered), string(v1alpha1.OutcomeRejected), string(v1alpha1.OutcomeThrottled),
		string(v1alpha1.OutcomeGone), string(v1alpha1.OutcomeTimedOut), string(v1alpha1.OutcomeUnreachable),
		string(v1alpha1.OutcomeTLSFailed), string(v1alpha1.OutcomeAddressRefused), string(v1alpha1.OutcomeInterrupted)}
}

// Each outcome of an attempt is a reason of TestDelivered and Succeeded.
func TestOutcomesAreReasons(t *testing.T) {
	reasons := constants(t, "Reason")
	for _, outcome := range attemptOutcomes() {
		if !slices.Contains(reasons, outcome) {
			t.Errorf("there is no reason for the outcome %s", outcome)
		}
	}
}

func TestKubectlExplain(t *testing.T) {
	for field, want := range map[string]string{
		"webhookendpoints":                            "WebhookEndpoint is a URL that call events are delivered to",
		"whe.spec.url":                                "an https URL without user name and fragment",
		"whe.spec.retry.maxRetries":                   "how many requests may follow the first",
		"whe.spec.headers.valueFrom.secretKeyRef.key": "key of the entry in the Secret's data",
		"whe.status.deliveries.unrecorded":            "never got a DeliveryAttempt",
		"dlva.spec.payload.sha256":                    "the payload's digest",
		"dlva.status.attempts.outcome":                "AddressRefused, a private or special address",
		"dlva.status.conditions.reason":               "reason contains",
	} {
		got := strings.Join(strings.Fields(kubectl(t, "explain", field)), " ")
		if !strings.Contains(got, want) {
			t.Errorf("kubectl explain %s does not say %q:\n%s", field, want, got)
		}
	}
	for _, kind := range []string{"webhookendpoints", "deliveryattempts"} {
		if got := kubectl(t, "explain", kind, "--recursive"); strings.Contains(got, "<empty>") || strings.Count(got, "\n") < 40 {
			t.Errorf("kubectl explain %s --recursive:\n%s", kind, got)
		}
	}
}

func TestSamplesAreAccepted(t *testing.T) {
	got := kubectl(t, "apply", "-k", samplesFolder, "-n", namespace(t), "--dry-run=server", "--validate=strict")
	if n := strings.Count(got, "webhookendpoint.webhooks.gary.club/"); n != 5 {
		t.Errorf("%d endpoints, want 5:\n%s", n, got)
	}
	// A sample that nobody lists is a sample that nobody tests.
	listed, err := os.ReadFile(filepath.Join(samplesFolder, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(samplesFolder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "kustomization.yaml" && !strings.Contains(string(listed), "- "+name+"\n") {
			t.Errorf("kustomization.yaml does not list %s", name)
		}
	}
}

// Samples keep the default retries, as the product's page describes them.
func TestSamplesKeepTheDefaultRetries(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(samplesFolder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var object unstructured.Unstructured
		if err := yaml.Unmarshal(text, &object.Object); err != nil {
			continue // several documents: Secrets
		}
		if _, found, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "retry"); found {
			t.Errorf("%s sets spec.retry", file)
		}
	}
}

func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, kind := range []string{"webhookendpoint", "deliveryattempt", "redelivery"} {
		text, err := os.ReadFile(filepath.Join(docsFolder, kind+".md"))
		if err != nil {
			t.Fatal(err)
		}
		all[kind] = string(text)
	}
	return all
}

// Every whole object in docs/spec can be applied as it stands.
func TestDocumentedObjectsAreAccepted(t *testing.T) {
	for kind, page := range pages(t) {
		accepted := 0
		for i, block := range strings.Split(page, "```yaml\n")[1:] {
			text, _, _ := strings.Cut(block, "```")
			object := document(t, text)
			resource, ours := resources[object.GetKind()]
			if !ours {
				continue // a part of an object, or another kind
			}
			if _, err := plain.Resource(resource).Namespace("default").Create(t.Context(), object, metav1.CreateOptions{
				DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}); err != nil {
				t.Errorf("%s.md, example %d: %v", kind, i+1, err)
			}
			accepted++
		}
		if accepted == 0 {
			t.Errorf("%s.md has no whole object", kind)
		}
	}
}

// The pages name every field, condition and reason, so that nobody meets a word in a status that they do not know.
func TestPagesAreComplete(t *testing.T) {
	all := pages(t)
	together := all["webhookendpoint"] + all["deliveryattempt"] + all["redelivery"]
	for _, word := range append(constants(t, "Reason"), constants(t, "Condition")...) {
		if !strings.Contains(together, "`"+word+"`") {
			t.Errorf("docs/spec says nothing about the condition or reason %s", word)
		}
	}
	for kind, schema := range schemas(t) {
		page := all[strings.ToLower(kind)]
		walk(kind, schema, func(path, name string, _ apiextensionsv1.JSONSchemaProps, theirs bool) {
			if !theirs && !strings.Contains(page, name) {
				t.Errorf("docs/spec says nothing about %s", path)
			}
		})
	}
}

// constants are the values of the string constants with a prefix in condition_types.go.
func constants(t *testing.T, prefix string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "condition_types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if want := prefix + value; spec.Names[0].Name != want {
			t.Errorf("%s = %q: name and value should agree", spec.Names[0].Name, value)
		}
		values = append(values, value)
		return true
	})
	if len(values) == 0 {
		t.Fatalf("no constant begins with %s", prefix)
	}
	return values
}

func TestEventOfTheTest(t *testing.T) {
	for name, tc := range map[string]struct {
		spec v1alpha1.WebhookEndpointSpec
		want v1alpha1.EventType
	}{
		"said": {v1alpha1.WebhookEndpointSpec{Events: []v1alpha1.EventType{"call.completed"},
			Test: v1alpha1.TestSpec{Event: "custom.a"}}, "custom.a"},
		"the first":                          {v1alpha1.WebhookEndpointSpec{Events: []v1alpha1.EventType{"contact.created", "call.completed"}}, "contact.created"},
		"the first of the page's":            {v1alpha1.WebhookEndpointSpec{Events: []v1alpha1.EventType{"custom.a", "booking.created"}}, "booking.created"},
		"the first when none is of the page": {v1alpha1.WebhookEndpointSpec{Events: []v1alpha1.EventType{"custom.b", "custom.a"}}, "custom.b"},
		"no events, which cannot be stored":  {v1alpha1.WebhookEndpointSpec{}, "call.completed"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.spec.TestEvent(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
