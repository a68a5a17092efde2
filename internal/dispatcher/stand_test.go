// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/process"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

const (
	namespace = "team"
	payload   = `{"event":"call.completed","timestamp":"2026-03-01T12:00:00Z","call":{"id":"c1"}}`
	patience  = 20 * time.Second
)

var ca = pki.NewCA("dispatcher test")

// tokens takes the token itself for the caller's namespace.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, token string) (control.Identity, error) {
	return control.Identity{Namespace: token, ServiceAccount: "app", Pod: "p", PodUID: token}, nil
}

// sink takes every record, and counters as answers says.
type sink struct {
	mu sync.Mutex
	// answers says whether a report of counters gets its answer; nil means all do.
	answers func(delivery.Counters) bool
	last    delivery.Counters
	counted chan struct{} // gets a value at each report
}

func (s *sink) Offer(_ context.Context, _ delivery.Source, _ delivery.Record, done func(bool)) error {
	done(true)
	return nil
}

func (s *sink) Count(_ context.Context, _ delivery.Source, all []delivery.Counters, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = all[len(all)-1]
	if s.answers == nil || s.answers(s.last) {
		done()
	}
	select {
	case s.counted <- struct{}{}:
	default:
	}
	return nil
}

func (s *sink) latest() delivery.Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// stand is a manager's control service, and the settings of a dispatcher that finds it.
type stand struct {
	*testing.T
	registry *endpoint.Registry
	sink     *sink
	options  Options
	logs     logs
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{T: t, registry: endpoint.NewRegistry(), sink: &sink{counted: make(chan struct{}, 1)}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificate := ca.Leaf([]string{"127.0.0.1"})
	server, err := control.NewServer(control.ServerOptions{Registry: s.registry, Sink: s.sink, Authenticator: tokens{},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
		Registerer:     prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ctx, listener) })
	server.Serving(true)
	t.Cleanup(func() { cancel(); serving.Wait() })

	s.options = DefaultOptions()
	s.options.Namespace, s.options.QueueDir = namespace, t.TempDir()
	s.options.Listen, s.options.HealthListen = s.address(), s.address()
	s.options.ManagerAddress, s.options.ManagerServerName = listener.Addr().String(), "127.0.0.1"
	s.options.CAFile, s.options.TokenFile = s.file("ca.crt", ca.PEM()), s.file("token", []byte(namespace))
	s.options.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.options.DrainTimeout = patience
	if err := s.options.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) address() string {
	s.Helper()
	port, claim, err := process.ReservePort()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = claim.Close() })
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (s *stand) file(name string, content []byte) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// assemble makes a dispatcher that is not started; the test stops it.
func (s *stand) assemble() *Dispatcher {
	s.Helper()
	d, err := assemble(s.context(), s.options, steadyClock())
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *stand) start() *Dispatcher {
	s.Helper()
	d := s.assemble()
	if err := d.Start(s.context()); err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *stand) context() context.Context {
	return logr.NewContext(context.Background(), s.logs.logger())
}

func (s *stand) stop(d *Dispatcher) {
	s.Helper()
	if err := d.Stop(s.context()); err != nil {
		s.Errorf("stop: %v", err)
	}
}

// post posts an event and returns the answer.
func (s *stand) post() string {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+s.options.Listen+"/v1/events", strings.NewReader(payload))
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusAccepted {
		s.Fatalf("answered %d %s, %v", response.StatusCode, answer, err)
	}
	return string(bytes.TrimSpace(answer))
}

// until waits for what the dispatcher does by itself.
func (s *stand) until(what string, done func() bool) {
	s.Helper()
	for limit := time.Now().Add(patience); !done(); {
		if time.Now().After(limit) {
			s.Fatalf("not seen: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// counter is the value of a counter by its labels in their order.
func (s *stand) counter(d *Dispatcher, name string, labels ...string) float64 {
	s.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue()
			}
		}
	}
	s.Fatalf("there is no %s %v", name, labels)
	return 0
}

func (s *stand) receive(o receiver.Options) *receiver.Receiver {
	s.Helper()
	r, err := receiver.Start(ca, o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(r.Close)
	return r
}

// serve has the manager know the endpoints.
func (s *stand) serve(all ...*endpoint.Endpoint) {
	for _, p := range all {
		p.Revision = endpoint.Revision(p)
		s.registry.Set(p)
	}
	s.registry.Complete()
}

func endpointOf(name, url string) *endpoint.Endpoint {
	return &endpoint.Endpoint{Ref: endpoint.Ref{Namespace: namespace, Name: name}, UID: "uid-" + name, Incarnation: "1", URL: url,
		Events: []event.Type{event.CallCompleted}, Timeout: 10 * time.Second, SuccessCodes: []string{"200"}, MaxInFlight: 1,
		SigningKeys: [][]byte{make([]byte, 24)}, TLS: endpoint.TLS{CABundle: ca.PEM()},
		Retry: endpoint.Retry{MaxRetries: 3, InitialBackoff: time.Hour, MaxBackoff: time.Hour, Deadline: 24 * time.Hour}}
}

// logs keeps what is logged at the default level.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, prefix+" "+args)
	}, funcr.Options{})
}

func (l *logs) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
