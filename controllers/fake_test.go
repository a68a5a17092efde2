// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// names is the DNS of the stories: every host is on loopback, but for nowhere.test.
type names struct{}

func (names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "nowhere.test" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// dispatchers stand in for the control service.
type dispatchers struct {
	mu        sync.Mutex
	connected int
	taken     []string // the revisions that all of them have
}

func (d *dispatchers) Taken(_, _, revision string) (connected, upToDate int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.taken, revision) {
		return d.connected, d.connected
	}
	return d.connected, 0
}

func (d *dispatchers) connect(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connected = n
}

func (d *dispatchers) take(revision string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = append(d.taken, revision)
}

// ledger stands in for the sums of the dispatchers' counters.
type ledger struct {
	mu       sync.Mutex
	totals   map[string]Totals
	unloaded bool
	asked    int // while it was not loaded
}

func (l *ledger) Loaded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unloaded {
		l.asked++
	}
	return !l.unloaded
}

func (l *ledger) Totals(_, uid string) (Totals, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, known := l.totals[uid]
	return t, known && !l.unloaded
}

// load says whether it is loaded, as it is unless it was said that it is not.
func (l *ledger) load(loaded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unloaded, l.asked = !loaded, 0
}

func (l *ledger) askedTooEarly() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *ledger) set(uid string, t Totals) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.totals == nil {
		l.totals = map[string]Totals{}
	}
	l.totals[uid] = t
}

// recorder keeps what it is offered.
type recorder struct {
	mu      sync.Mutex
	records []delivery.Record
}

func (r *recorder) Offer(_ context.Context, _ string, offered delivery.Record, done func(bool)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, offered)
	done(true)
	return nil
}

func (r *recorder) all() []delivery.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// logs keeps every line that is logged, up to the level at which client-go writes whole objects.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, prefix+" "+args)
	}, funcr.Options{Verbosity: 7})
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// wire stands between a manager and the API server: it counts status writes and refuses what it is told to.
type wire struct {
	next http.RoundTripper

	mu     sync.Mutex
	writes map[string]int // of an endpoint's status, by name
	refuse func(*http.Request) bool
}

func (w *wire) RoundTrip(q *http.Request) (*http.Response, error) {
	w.mu.Lock()
	refuse := w.refuse != nil && w.refuse(q)
	if rest, ok := strings.CutSuffix(q.URL.Path, "/status"); ok && q.Method == http.MethodPatch {
		if w.writes == nil {
			w.writes = map[string]int{}
		}
		w.writes[rest[strings.LastIndexByte(rest, '/')+1:]]++
	}
	w.mu.Unlock()
	if refuse {
		return &http.Response{StatusCode: http.StatusInternalServerError, Status: "500", Body: http.NoBody, Header: http.Header{}, Request: q}, nil
	}
	return w.next.RoundTrip(q)
}

func (w *wire) refusing(f func(*http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = f
}

func (w *wire) statusWrites(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes[name]
}
