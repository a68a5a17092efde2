// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/process"
)

const wait = 30 * time.Second

// cluster is a real API server with the whole manager running against it.
type cluster struct {
	plane  *controlplane.ControlPlane
	client client.Client
	health string
}

// TestInjection has one manager for all its stories: a process has one set of metrics.
func TestInjection(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	c := startCluster(t)
	t.Run("the CA", c.testCA)
	t.Run("a labelled pod", c.testLabelled)
	t.Run("others change the pod", c.testReinvocation)
	t.Run("refusals", c.testRefusals)
	t.Run("who orders a redelivery", c.testRequester)
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	c := &cluster{plane: plane}
	if c.client, err = client.New(plane.Config(), client.Options{Scheme: clientgoscheme.Scheme}); err != nil {
		t.Fatal(err)
	}
	if err := plane.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"webhook-system", "team-a", "team-b"} {
		if err := plane.Namespace(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	o := DefaultOptions()
	o.ControlListen, o.MetricsListen, o.HealthListen, o.WebhookListen = address(t), address(t), address(t), address(t)
	o.ControlHosts, o.Namespaces, o.LeaderElect = []string{"127.0.0.1"}, []string{"team-a"}, false
	o.DispatcherImage, o.DispatcherPullPolicy = "webhook-operator/dispatcher:test", "Never"
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	c.health = o.HealthListen
	c.configure(t, o.WebhookListen)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, plane.Config(), o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	g := NewWithT(t)
	g.Eventually(c.ready).WithContext(t.Context()).WithTimeout(wait).Should(Succeed())
	return c
}

func address(t *testing.T) string {
	t.Helper()
	port, claim, err := process.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = claim.Close() })
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// configure applies config/webhook, but for the Service, which nobody routes here.
func (c *cluster) configure(t *testing.T, address string) {
	t.Helper()
	text, err := os.ReadFile("../../config/webhook/mutating_webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, o); err != nil {
		t.Fatal(err)
	}
	to := o.Webhooks[0].ClientConfig.Service
	if to.Name+"."+to.Namespace+".svc" != (&Options{Namespace: "webhook-system"}).hosts()[2] || *to.Path != injectPath {
		t.Errorf("the API server would call %+v", to)
	}
	for i, path := range []string{injectPath, redeliveryPath} {
		url := "https://" + address + path
		if o.Webhooks[i].Name != ownWebhooks[i] || *o.Webhooks[i].ClientConfig.Service.Path != path {
			t.Errorf("webhook %d is %s", i, o.Webhooks[i].Name)
		}
		o.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &url}
	}
	if err := c.client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.health+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %d", answer.StatusCode)
	}
	return nil
}

func (c *cluster) configuration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	o := &admissionregistrationv1.MutatingWebhookConfiguration{}
	return o, c.client.Get(ctx, client.ObjectKey{Name: injectConfiguration}, o)
}

func (c *cluster) trusts(ctx context.Context) error {
	o, err := c.configuration(ctx)
	if err != nil {
		return err
	}
	if block := o.Webhooks[0].ClientConfig.CABundle; !x509.NewCertPool().AppendCertsFromPEM(block) {
		return fmt.Errorf("the bundle is %q", block)
	}
	return nil
}

// create asks the API server, which calls the webhook, and keeps nothing.
func (c *cluster) create(ctx context.Context, pod *corev1.Pod) error {
	return c.client.Create(ctx, pod, client.DryRunAll, client.FieldValidation("Strict"))
}

func labelled(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "app-", Labels: map[string]string{v1alpha1.LabelInject: "true"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
}

func (c *cluster) testCA(t *testing.T) {
	g := NewWithT(t)
	g.Eventually(c.trusts).WithContext(t.Context()).WithTimeout(wait).Should(Succeed())
	o, err := c.configuration(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	// Somebody breaks it, and adds a webhook of his own, which is not ours to change.
	o.Webhooks[0].ClientConfig.CABundle = nil
	other := *o.Webhooks[0].DeepCopy()
	other.Name, other.ObjectSelector = "other.example.com", &metav1.LabelSelector{MatchLabels: map[string]string{"no": "pod"}}
	o.Webhooks = append(o.Webhooks, other)
	g.Expect(c.client.Update(t.Context(), o)).To(Succeed())
	g.Eventually(c.trusts).WithContext(t.Context()).WithTimeout(wait).Should(Succeed())
	o, err = c.configuration(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Webhooks).To(HaveLen(3))
	g.Expect(o.Webhooks[2].ClientConfig.CABundle).To(BeEmpty())
}

func (c *cluster) testLabelled(t *testing.T) {
	g := NewWithT(t)
	var pod *corev1.Pod
	// The API server takes a changed configuration up after a moment.
	g.Eventually(func() error { pod = labelled("team-a"); return c.create(t.Context(), pod) }).WithTimeout(wait).Should(Succeed())
	g.Expect(pod.Spec.InitContainers).To(HaveLen(1))
	sidecar := pod.Spec.InitContainers[0]
	g.Expect(sidecar.Name).To(Equal(v1alpha1.SidecarName))
	g.Expect(sidecar.Image).To(Equal("webhook-operator/dispatcher:test"))
	g.Expect(sidecar.ImagePullPolicy).To(Equal(corev1.PullNever))
	g.Expect(sidecar.Args).To(ContainElement("--manager-address=webhook-manager-control.webhook-system.svc:9443"))
	for _, m := range sidecar.VolumeMounts {
		g.Expect(m.Name).NotTo(HavePrefix("kube-api-access"), "the app's API token is in our container")
	}
	g.Expect(pod.Spec.Containers[0].Env).To(ContainElement(HaveField("Name", v1alpha1.EventsURLVariable)))
	g.Expect(pod.Annotations).To(HaveKey(v1alpha1.AnnotationInjected))

	unlabelled := labelled("team-a")
	unlabelled.Labels = nil
	g.Expect(c.create(t.Context(), unlabelled)).To(Succeed())
	g.Expect(unlabelled.Spec.InitContainers).To(BeEmpty())
}

// testReinvocation has a LimitRange, and another webhook that comes later and appends a sidecar.
func (c *cluster) testReinvocation(t *testing.T) {
	g := NewWithT(t)
	one := resource.MustParse("1")
	g.Expect(c.client.Create(t.Context(), &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "defaults"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceCPU: one}}}}})).To(Succeed())
	c.startOther(t)
	var pod *corev1.Pod
	g.Eventually(func(g Gomega) {
		pod = labelled("team-a")
		g.Expect(c.create(t.Context(), pod)).To(Succeed())
		g.Expect(pod.Spec.InitContainers).To(HaveLen(2))
		g.Expect(pod.Spec.InitContainers[1].Resources.Limits).To(HaveKey(corev1.ResourceCPU))
	}).WithTimeout(wait).Should(Succeed())
	g.Expect(pod.Spec.InitContainers[0].Name).To(Equal("late"))
	g.Expect(pod.Spec.InitContainers[0].Env).To(ContainElement(HaveField("Name", v1alpha1.EventsURLVariable)))
	sidecar := pod.Spec.InitContainers[1]
	g.Expect(sidecar.Name).To(Equal(v1alpha1.SidecarName))
	g.Expect(sidecar.Resources.Limits.Cpu().Cmp(one)).To(BeZero(), "the LimitRange's default is gone")
	g.Expect(sidecar.Image).To(Equal("mirror.example.com/webhook-operator/dispatcher:test"), "the rewritten image is gone")
}

// startOther serves a webhook that puts a sidecar behind ours, and rewrites our image.
func (c *cluster) startOther(t *testing.T) {
	t.Helper()
	handler := admission.HandlerFunc(func(_ context.Context, request admission.Request) admission.Response {
		if strings.Contains(string(request.Object.Raw), `"late"`) {
			return admission.Allowed("")
		}
		patchType, response := admissionv1.PatchTypeJSONPatch, admission.Allowed("")
		response.PatchType, response.Patch = &patchType, []byte(`[
			{"op": "add", "path": "/spec/initContainers/-", "value": {"name": "late", "image": "late:1", "restartPolicy": "Always"}},
			{"op": "replace", "path": "/spec/initContainers/0/image", "value": "mirror.example.com/webhook-operator/dispatcher:test"}]`)
		return response
	})
	server := httptest.NewUnstartedServer(&admission.Webhook{Handler: handler})
	ca := pki.NewCA("Other CA")
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}}
	server.StartTLS()
	t.Cleanup(server.Close)
	o, err := c.configuration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.ObjectMeta = metav1.ObjectMeta{Name: "zz-other"} // called in the order of names
	o.Webhooks = o.Webhooks[:1]
	o.Webhooks[0].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &server.URL, CABundle: ca.PEM()}
	if err := c.client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.client.Delete(context.WithoutCancel(t.Context()), o); err != nil {
			t.Error(err)
		}
	})
}

func (c *cluster) testRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		namespace string
		change    func(*corev1.Pod)
		want      string
	}{
		"the node's network":           {"team-a", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "spec.hostNetwork: "},
		"a namespace that is not ours": {"team-b", func(*corev1.Pod) {}, "--namespaces"},
	} {
		pod := labelled(tc.namespace)
		tc.change(pod)
		err := c.create(t.Context(), pod)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), ownWebhooks[0]) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestTheInjectorLeavesOtherRequestsAlone(t *testing.T) {
	for name, change := range map[string]func(*admission.Request){
		"an update":     func(r *admission.Request) { r.Operation = "UPDATE" },
		"a subresource": func(r *admission.Request) { r.SubResource = "ephemeralcontainers" },
		"another kind":  func(r *admission.Request) { r.Resource.Resource = "deployments" },
	} {
		request := admission.Request{}
		request.Operation, request.Resource = "CREATE", podResource
		request.Object.Raw = []byte(`{"metadata":{"labels":{"webhooks.gary.club/inject":"true"}}}`)
		o := DefaultOptions()
		i := &injector{o.injectSettings()}
		if response := i.Handle(t.Context(), request); !response.Allowed || len(response.Patches) == 0 {
			t.Fatalf("the request itself: %+v", response)
		}
		change(&request)
		if response := i.Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
			t.Errorf("%s: %+v", name, response)
		}
	}
}

func TestTheInjectorOnWhatIsNoPod(t *testing.T) {
	request := admission.Request{}
	request.Operation, request.Resource = "CREATE", podResource
	request.Object.Raw = []byte(`{"spec": 1}`)
	if response := (&injector{}).Handle(t.Context(), request); response.Allowed || response.Result.Code != http.StatusBadRequest {
		t.Errorf("response is %+v", response)
	}
}

func TestTrust(t *testing.T) {
	o := &admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "other"}, {Name: ownWebhooks[0]}}}
	if trust(o, nil) {
		t.Error("changed before there is a CA")
	}
	if !trust(o, []byte("a")) || trust(o, []byte("a")) {
		t.Error("not changed once")
	}
	if string(o.Webhooks[1].ClientConfig.CABundle) != "a" || len(o.Webhooks[0].ClientConfig.CABundle) > 0 {
		t.Errorf("webhooks are %+v", o.Webhooks)
	}
}

func TestInjectSettings(t *testing.T) {
	o := DefaultOptions()
	o.Namespace, o.EgressProxy = "elsewhere", "http://proxy.test:3128"
	o.DispatcherImage, o.DispatcherArgs = "image", []string{"--max-in-flight=256"}
	if err := o.EgressAllow.Set("10.0.0.0/8, fd00::/8"); err != nil {
		t.Fatal(err)
	}
	s := o.injectSettings()
	want := []string{"--egress-allow=10.0.0.0/8", "--egress-allow=fd00::/8", "--egress-proxy=http://proxy.test:3128", "--max-in-flight=256"}
	if !slices.Equal(s.Args, want) || s.Version == "" || s.Image != "image" || s.ManagerAddress != "webhook-manager-control.elsewhere.svc:9443" {
		t.Errorf("settings are %+v", s)
	}
}

func TestWebhookServer(t *testing.T) {
	a := &assembly{options: DefaultOptions()}
	if server, err := a.webhookServer(); err != nil || server != nil {
		t.Errorf("without an image there is %v, %v", server, err)
	}
	a.options.DispatcherImage, a.options.WebhookListen = "image", "127.0.0.1:9444"
	for certificates, wantDir := range map[string]string{CertificatesOwn: "", "/certs": "/certs"} {
		a.options.InjectCertificates = certificates
		server, err := a.webhookServer()
		if err != nil {
			t.Fatal(err)
		}
		o := server.(*webhook.DefaultServer).Options
		config := &tls.Config{}
		for _, change := range o.TLSOpts {
			change(config)
		}
		if o.Host != "127.0.0.1" || o.Port != 9444 || o.CertDir != wantDir || config.MinVersion != tls.VersionTLS13 || (config.GetCertificate == nil) != (wantDir != "") {
			t.Errorf("%s: options are %+v", certificates, o)
		}
	}
}
