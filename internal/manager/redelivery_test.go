// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// testRequester orders as a user of the namespace, with the webhook, and without it.
func (c *cluster) testRequester(t *testing.T) {
	g := NewWithT(t)
	out, err := exec.CommandContext(t.Context(), c.plane.KubectlPath(), "--kubeconfig", c.plane.Kubeconfig(), "apply",
		"-f", "../../config/crd/redelivery_requester.yaml").CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))
	alice := c.userThatOrders(t, "alice@example.com")

	// The webhook writes the name, and refuses another one.
	g.Eventually(func() error { return alice.Create(t.Context(), redelivery("said", "")) }).WithTimeout(wait).Should(Succeed())
	stored := &v1alpha1.Redelivery{}
	g.Expect(alice.Get(t.Context(), client.ObjectKey{Namespace: "team-a", Name: "said"}, stored)).To(Succeed())
	g.Expect(stored.Spec.RequestedBy).To(Equal("alice@example.com"))
	g.Expect(alice.Create(t.Context(), redelivery("forged", "bob"))).To(MatchError(And(ContainSubstring(ownWebhooks[1]), ContainSubstring("leave it out"))))

	// The same manifest is applied again, in either way, and changes nothing.
	manifest := filepath.Join(t.TempDir(), "order.yaml")
	g.Expect(os.WriteFile(manifest, []byte(orderManifest), 0o600)).To(Succeed())
	for _, way := range [][]string{{"apply"}, {"apply"}, {"apply", "--server-side", "--force-conflicts"}, {"apply", "--server-side"}} {
		args := append([]string{"--kubeconfig", c.plane.Kubeconfig()}, append(way, "-f", manifest)...)
		out, err := exec.CommandContext(t.Context(), c.plane.KubectlPath(), args...).CombinedOutput()
		g.Expect(err).NotTo(HaveOccurred(), string(out))
	}

	// Without it, another name is refused; the API server needs a moment to see both.
	c.withoutWebhook(t)
	g.Eventually(func() error { return alice.Create(t.Context(), redelivery("forged", "bob"), client.DryRunAll) }).WithTimeout(wait).
		Should(MatchError(ContainSubstring("spec.requestedBy must be the user who creates the object")))
	g.Expect(alice.Create(t.Context(), redelivery("nobody", ""), client.DryRunAll)).NotTo(Succeed())
	g.Expect(alice.Create(t.Context(), redelivery("own", "alice@example.com"), client.DryRunAll)).To(Succeed())
}

const orderManifest = `
apiVersion: webhooks.gary.club/v1alpha1
kind: Redelivery
metadata: {name: applied, namespace: team-a}
spec: {endpointRef: {name: crm}}
`

func (c *cluster) withoutWebhook(t *testing.T) {
	t.Helper()
	o := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: injectConfiguration}}
	NewWithT(t).Expect(c.client.Delete(t.Context(), o)).To(Succeed())
}

func redelivery(name, requestedBy string) *v1alpha1.Redelivery {
	return &v1alpha1.Redelivery{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: name},
		Spec: v1alpha1.RedeliverySpec{EndpointRef: v1alpha1.EndpointReference{Name: "crm"}, RequestedBy: requestedBy}}
}

func (c *cluster) userThatOrders(t *testing.T, name string) client.Client {
	t.Helper()
	g := NewWithT(t)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "orders"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"redeliveries"}, Verbs: []string{"create", "get"}}}}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "orders"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "orders"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}}}
	g.Expect(c.client.Create(t.Context(), role)).To(Succeed())
	g.Expect(c.client.Create(t.Context(), binding)).To(Succeed())
	config, err := c.plane.ConfigFor(name, "system:authenticated")
	g.Expect(err).NotTo(HaveOccurred())
	scheme := runtime.NewScheme()
	g.Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	user, err := client.New(config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	return user
}

func TestTheStamperLeavesOtherRequestsAlone(t *testing.T) {
	for name, change := range map[string]func(*admission.Request){
		"an update":     func(r *admission.Request) { r.Operation = "UPDATE" },
		"a subresource": func(r *admission.Request) { r.SubResource = "status" },
		"another kind":  func(r *admission.Request) { r.Resource.Resource = "webhookendpoints" },
	} {
		request := admission.Request{}
		request.Operation, request.Resource = "CREATE", redeliveryResource
		request.Object.Raw = []byte(`{"spec":{"later":1}}`)
		request.UserInfo.Username = "alice"
		if response := (stamper{}).Handle(t.Context(), request); !response.Allowed || len(response.Patches) != 1 {
			t.Fatalf("the request itself: %+v", response)
		}
		change(&request)
		if response := (stamper{}).Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
			t.Errorf("%s: %+v", name, response)
		}
	}
}

func TestStamp(t *testing.T) {
	for name, tc := range map[string]struct{ object, want string }{
		"none was said":     {`{"spec":{"limit":1}}`, `{"spec":{"limit":1,"requestedBy":"alice"}}`},
		"another was said":  {`{"spec":{"requestedBy":"bob"}}`, ""},
		"the same was said": {`{"spec":{"requestedBy":"alice"}}`, `{"spec":{"requestedBy":"alice"}}`},
		"there is no spec":  {`{"metadata":{"name":"a"}}`, `{"metadata":{"name":"a"},"spec":{"requestedBy":"alice"}}`},
		"the spec is none":  {`{"spec":1}`, ""},
		"it is no document": {`{`, ""},
	} {
		got, err := stamp([]byte(tc.object), "alice")
		if (err == nil) != (tc.want != "") || strings.TrimSpace(string(got)) != tc.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
