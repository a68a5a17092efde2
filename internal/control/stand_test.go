// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// fakeTokens takes "a.<namespace>.<pod>" for a token.
type fakeTokens struct{}

func (fakeTokens) Authenticate(_ context.Context, token string) (Identity, error) {
	part := strings.Split(token, ".")
	if len(part) != 3 || part[0] != "a" {
		return Identity{}, errUnauthenticated
	}
	return Identity{Namespace: part[1], ServiceAccount: "app", Pod: part[2], PodUID: part[1] + "/" + part[2]}, nil
}

// fakeSink takes records; answer decides what becomes of one, nil means recorded.
type fakeSink struct {
	mu       sync.Mutex
	records  []delivery.Record
	counters map[string][]delivery.Counters // by namespace/queue
	answer   func(r delivery.Record, done func(bool))
	refuse   bool
	source   delivery.Source // of the latest report
}

func (s *fakeSink) Offer(_ context.Context, from delivery.Source, r delivery.Record, done func(bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		return errors.New("full of secret things")
	}
	s.source = from
	s.records = append(s.records, r)
	if s.answer != nil {
		s.answer(r, done)
		return nil
	}
	done(true)
	return nil
}

func (s *fakeSink) Count(_ context.Context, from delivery.Source, counters []delivery.Counters, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = from
	s.counters[from.Namespace+"/"+from.QueueID] = counters
	done()
	return nil
}

// stand is a server on loopback.
type stand struct {
	t           *testing.T
	registry    *endpoint.Registry
	sink        *fakeSink
	server      *Server
	address     string
	caFile      string
	certificate tls.Certificate
	log         logr.Logger // of dispatchers
	stop        func()

	mu      sync.Mutex
	changes map[string]int
}

func newStand(t *testing.T, change func(*ServerOptions)) *stand {
	t.Helper()
	s := &stand{
		t: t, registry: endpoint.NewRegistry(), changes: map[string]int{},
		sink: &fakeSink{counters: map[string][]delivery.Counters{}},
	}
	var ca []byte
	s.certificate, ca = newCertificate(t)
	s.caFile = writeFile(t, "ca.crt", string(ca))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.serve(listener, change)
	t.Cleanup(func() { s.stop() })
	s.server.Serving(true)
	return s
}

func (s *stand) serve(listener net.Listener, change func(*ServerOptions)) {
	s.t.Helper()
	o := ServerOptions{
		Registry: s.registry, Sink: s.sink, Authenticator: fakeTokens{}, Registerer: prometheus.NewRegistry(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &s.certificate, nil },
		OnChange: func(namespace string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changes[namespace]++
		},
	}
	if change != nil {
		change(&o)
	}
	var err error
	if s.server, err = NewServer(o); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	server := s.server
	wait.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			s.t.Error(err)
		}
	})
	s.stop = func() {
		cancel()
		wait.Wait()
	}
}

// dispatcher is a client with what it has put in force.
type dispatcher struct {
	client *Client
	stop   func()

	mu      sync.Mutex
	inForce map[string]*endpoint.Endpoint
	applied int
	fail    error
	gateway []string // what OnGateway was told
}

func (s *stand) dispatcher(namespace, pod string, known ...*endpoint.Endpoint) *dispatcher {
	s.t.Helper()
	d := &dispatcher{inForce: map[string]*endpoint.Endpoint{}}
	for _, p := range known {
		d.inForce[p.Name] = p
	}
	var err error
	d.client, err = NewClient(ClientOptions{
		Address: s.address, CAFile: s.caFile, TokenFile: writeFile(s.t, "token", "a."+namespace+"."+pod+"\n"),
		QueueID: "queue-" + pod, Version: "test", Registerer: prometheus.NewRegistry(),
		Known: d.list, Apply: d.apply, OnGateway: d.hearGateway, Log: s.log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := d.client.Start(ctx); err != nil {
			s.t.Error(err)
		}
	})
	d.stop = func() {
		cancel()
		wait.Wait()
		_ = d.client.Close() // a second close says so
	}
	s.t.Cleanup(d.stop)
	return d
}

// apply puts the list in force even when it fails, as a dispatcher does that cannot save it.
func (d *dispatcher) apply(list []*endpoint.Endpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied++
	d.inForce = map[string]*endpoint.Endpoint{}
	for _, p := range list {
		d.inForce[p.Name] = p
	}
	return d.fail
}

func (d *dispatcher) hearGateway(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gateway = append(d.gateway, address)
}

func (d *dispatcher) heard() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.gateway)
}

func (d *dispatcher) connected() bool { return d.client.connected.Load() }

func (d *dispatcher) list() []*endpoint.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.inForce))
}

func (d *dispatcher) get(name string) *endpoint.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inForce[name]
}

func (d *dispatcher) setFail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *dispatcher) applies() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applied
}

func newEndpoint(namespace, name string, change ...func(*endpoint.Endpoint)) *endpoint.Endpoint {
	p := &endpoint.Endpoint{
		Ref: endpoint.Ref{Namespace: namespace, Name: name}, UID: "uid-" + name, Generation: 2, Incarnation: "inc",
		URL: "https://example.com/" + name, Events: []event.Type{event.CallCompleted}, Agents: []string{"agent"},
		Timeout: 10 * time.Second, SuccessCodes: []string{"200"},
		Retry:       endpoint.Retry{MaxRetries: 3, InitialBackoff: time.Second, MaxBackoff: time.Minute, Deadline: time.Hour},
		SigningKeys: [][]byte{{1, 2, 3}}, Headers: []endpoint.Header{{Name: "X-Client", Value: "acme"}},
		TLS:         endpoint.TLS{CABundle: []byte("ca"), ClientCert: []byte("c"), ClientKey: []byte("k"), ServerName: "s"},
		MaxInFlight: 16,
	}
	for _, c := range change {
		c(p)
	}
	p.Revision = endpoint.Revision(p)
	return p
}

func withURL(url string) func(*endpoint.Endpoint) {
	return func(p *endpoint.Endpoint) { p.URL = url }
}

func many(namespace string, n int) []*endpoint.Endpoint {
	list := make([]*endpoint.Endpoint, n)
	for i := range list {
		// 1 KiB of certificate each, so that they are more than one message can carry.
		list[i] = newEndpoint(namespace, fmt.Sprintf("e-%05d", i), func(p *endpoint.Endpoint) {
			p.TLS.CABundle = []byte(strings.Repeat("x", 1024))
		})
	}
	return list
}

func (s *stand) sent() float64 { return counterOf(s.t, s.server.metrics.endpointsSent) }

func counterOf(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "manager"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("error %v has code %v, want %v", err, got, want)
	}
}
