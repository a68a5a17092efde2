// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// stand is the package as the manager has it, in one namespace of its own: reconciler, prober and CA publisher, with
// the real way out, and stand-ins for what comes from dispatchers.
type stand struct {
	*WithT
	t         *testing.T
	namespace string
	client    client.WithWatch // past the cache
	allow     []netip.Prefix

	dispatchers *dispatchers
	ledger      *ledger
	records     *recorder
	queues      *queues
	logs        *logs
	clock       *clock
	bundle      *bundle
	hush        []string // what no status, Event, record or line may contain

	// Of the manager that runs, or ran last.
	registry *endpoint.Registry
	changed  chan ctrlevent.GenericEvent
	metrics  *prometheus.Registry
	wire     *wire
	stop     func()
}

// suiteHashKey is as long as it has to be.
var suiteHashKey = []byte("hush-hash-key-of-32-bytes-or-more")

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// newStand starts a manager that may reach loopback.
func newStand(t *testing.T) *stand {
	t.Helper()
	s := prepareStand(t)
	s.allow = loopback
	s.start()
	return s
}

// prepareStand makes what a manager finds, without one.
func prepareStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{WithT: NewWithT(t), t: t, namespace: "n" + strconv.FormatInt(time.Now().UnixNano(), 36), hush: []string{"hush"},
		dispatchers: &dispatchers{}, ledger: &ledger{}, records: &recorder{}, queues: &queues{all: map[string]*letterbox{}}, logs: &logs{}, clock: &clock{}, bundle: &bundle{text: "bundle one"}}
	s.Expect(plane.Namespace(t.Context(), s.namespace)).To(Succeed())
	var err error
	s.client, err = client.NewWithWatch(plane.Config(), client.Options{Scheme: scheme})
	s.Expect(err).NotTo(HaveOccurred())
	s.secret("ca", true, "ca.crt", string(ca.PEM()))
	s.secret("auth", true, "value", "Bearer hush-header")
	s.watch()
	return s
}

// start starts a manager over what is there; the one before it is stopped.
func (s *stand) start() {
	s.t.Helper()
	if s.stop != nil {
		s.stop()
	}
	s.registry, s.changed, s.metrics = endpoint.NewRegistry(), make(chan ctrlevent.GenericEvent, 100), prometheus.NewRegistry()
	rest := plane.Config()
	s.wire = &wire{}
	rest.Wrap(func(next http.RoundTripper) http.RoundTripper {
		s.wire.next = next
		return s.wire
	})
	yes, grace := true, 10*time.Second
	mgr, err := ctrl.NewManager(rest, ctrl.Options{Scheme: scheme, Cache: CacheOptions([]string{s.namespace}), Logger: s.logs.logger(),
		Metrics: metricsserver.Options{BindAddress: "0"}, GracefulShutdownTimeout: &grace,
		Controller: config.Controller{SkipNameValidation: &yes}})
	s.Expect(err).NotTo(HaveOccurred())
	network := egress.New(egress.Options{Allow: s.allow, Resolver: names{}, UserAgent: "suite"})
	s.setup(mgr, NewProber(network, s.changed))
	s.run(mgr, network.Close)
}

func (s *stand) setup(mgr manager.Manager, prober *Prober) {
	s.t.Helper()
	r := &WebhookEndpointReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("webhook-operator"),
		Options: Options{Registry: s.registry, Prober: prober, Recorder: s.records, Dispatchers: s.dispatchers, Counters: s.ledger, HashKey: suiteHashKey,
			Changed: source.Channel(s.changed, &handler.EnqueueRequestForObject{}), Now: s.clock.now, Registerer: s.metrics}}
	s.Expect(r.SetupWithManager(mgr)).To(Succeed())
	s.Expect((&CAPublisher{Client: mgr.GetClient(), Bundle: s.bundle.get}).SetupWithManager(mgr)).To(Succeed())
	orders := &RedeliveryReconciler{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("webhook-operator"), Orders: s.queues, Queues: s.queues, InForce: s.queues.inForce, Now: s.clock.now, Settle: time.Nanosecond}
	s.Expect(orders.SetupWithManager(mgr)).To(Succeed())
	s.Expect(mgr.Add(prober)).To(Succeed())
}

func (s *stand) run(mgr manager.Manager, after func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("manager: %v", err)
		}
		after()
	})
	s.t.Cleanup(s.stop)
}

// receiver starts one that answers under the host.
func (s *stand) receiver(host string, o receiver.Options) *receiver.Receiver {
	s.t.Helper()
	if o.Hosts == nil {
		o.Hosts = []string{host}
	}
	r, err := receiver.Start(ca, o)
	s.Expect(err).NotTo(HaveOccurred())
	s.t.Cleanup(r.Close)
	return r
}

// urlAt is where a receiver is found under a host, with a path and a query that nobody shall see.
func urlAt(host string, r *receiver.Receiver) string {
	return "https://" + host + ":" + port(r) + "/hush-path?key=hush-query"
}

func port(r *receiver.Receiver) string {
	return strconv.Itoa(int(netip.MustParseAddrPort(r.Addr()).Port()))
}

// create makes an endpoint that trusts the suite's CA and sends a secret header.
func (s *stand) create(name, url string, change ...func(*v1alpha1.WebhookEndpoint)) *v1alpha1.WebhookEndpoint {
	s.t.Helper()
	o := &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	o.Spec = v1alpha1.WebhookEndpointSpec{URL: url, Events: []v1alpha1.EventType{"call.completed", "booking.created"},
		Headers: []v1alpha1.Header{{Name: "Authorization", ValueFrom: &v1alpha1.HeaderValueSource{
			SecretKeyRef: v1alpha1.SecretKeyReference{Name: "auth", Key: "value"}}}},
		TLS: &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: "ca"}}}
	for _, f := range change {
		f(o)
	}
	s.Expect(s.client.Create(s.t.Context(), o)).To(Succeed())
	return o
}

func (s *stand) change(name string, f func(*v1alpha1.WebhookEndpoint)) {
	s.t.Helper()
	o := s.get(name)
	base := o.DeepCopy()
	f(o)
	s.Expect(s.client.Patch(s.t.Context(), o, client.MergeFrom(base))).To(Succeed())
}

// delete deletes the endpoint and waits until it is forgotten.
func (s *stand) delete(o *v1alpha1.WebhookEndpoint) {
	s.t.Helper()
	s.Expect(s.client.Delete(s.t.Context(), o)).To(Succeed())
	s.Eventually(func() []*endpoint.Endpoint { list, _, _ := s.registry.View(s.namespace); return list }).Should(BeEmpty())
}

func (s *stand) get(name string) *v1alpha1.WebhookEndpoint {
	s.t.Helper()
	o := &v1alpha1.WebhookEndpoint{}
	s.Expect(s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, o)).To(Succeed())
	return o
}

// until waits for a status of the latest generation that f finds nothing wrong with.
func (s *stand) until(name string, f func(g Gomega, o *v1alpha1.WebhookEndpoint)) *v1alpha1.WebhookEndpoint {
	s.t.Helper()
	var o *v1alpha1.WebhookEndpoint
	s.Eventually(func(g Gomega) {
		o = s.get(name)
		g.Expect(o.Status.ObservedGeneration).To(Equal(o.Generation))
		f(g, o)
	}).Should(Succeed())
	return o
}

// untilCondition waits for a condition and returns its message; a reason alone means Ready=False.
func (s *stand) untilCondition(name, kind string, status metav1.ConditionStatus, reason string) string {
	s.t.Helper()
	o := s.until(name, func(g Gomega, o *v1alpha1.WebhookEndpoint) {
		c := conditions.Get(o.Status.Conditions, kind)
		g.Expect(string(c.Status)+"/"+c.Reason).To(Equal(string(status)+"/"+reason), c.Message)
		g.Expect(c.ObservedGeneration).To(Equal(o.Generation))
	})
	return conditions.Get(o.Status.Conditions, kind).Message
}

func (s *stand) untilReady(name string) *v1alpha1.WebhookEndpoint {
	s.t.Helper()
	s.untilCondition(name, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	return s.get(name)
}

// untilPublished waits until dispatchers would get an endpoint that f likes.
func (s *stand) untilPublished(name string, f func(*endpoint.Endpoint) bool) *endpoint.Endpoint {
	s.t.Helper()
	var last *endpoint.Endpoint
	deadline := time.After(20 * time.Second)
	for {
		list, _, changed := s.registry.View(s.namespace)
		for _, p := range list {
			if last = p; p.Name == name && f(p) {
				return p
			}
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("published is still %+v", last)
		}
	}
}

func (s *stand) untilHold(name string, hold endpoint.Hold) *endpoint.Endpoint {
	s.t.Helper()
	return s.untilPublished(name, func(p *endpoint.Endpoint) bool { return p.Hold == hold })
}

// poke has the reconciler look again, as news from dispatchers would.
func (s *stand) poke(name string) {
	s.changed <- ctrlevent.GenericEvent{Object: &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}}
}

// secret writes a Secret; text is entry, value, entry, value.
func (s *stand) secret(name string, labelled bool, text ...string) {
	s.t.Helper()
	o := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, StringData: map[string]string{}}
	if labelled {
		o.Labels = map[string]string{v1alpha1.LabelCredentials: "true"}
	}
	for i := 0; i < len(text); i += 2 {
		o.StringData[text[i]] = text[i+1]
	}
	found := &corev1.Secret{}
	if s.client.Get(s.t.Context(), client.ObjectKeyFromObject(o), found) == nil {
		o.ResourceVersion = found.ResourceVersion
		s.Expect(s.client.Update(s.t.Context(), o)).To(Succeed())
		return
	}
	s.Expect(s.client.Create(s.t.Context(), o)).To(Succeed())
}

// clock can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
}

// bundle is what the CA publisher publishes.
type bundle struct {
	mu   sync.Mutex
	text string
}

func (b *bundle) get() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte(b.text)
}

func (b *bundle) set(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
}

func conditionOf(o *v1alpha1.WebhookEndpoint, kind string) metav1.Condition {
	return conditions.Get(o.Status.Conditions, kind)
}
