// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/fixture/hostile"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

const (
	hostileRounds = 5
	// What a fleet of hostile receivers, or a flood of producers, may add to a dispatcher.
	hostileMemory     = 32 << 20
	hostileGoroutines = 40 // two for each connection over HTTP/2 that is kept for a while
	floodMemory       = 64 << 20
)

// load is what a dispatcher takes of its machine.
type load struct {
	rss        int64
	goroutines int
}

func (l load) String() string {
	return fmt.Sprintf("%6.1f MiB, %4d goroutines", float64(l.rss)/(1<<20), l.goroutines)
}

func (n *tenant) load() (l load, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return l, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		return l, err
	}
	goroutines, err := n.metric("go_goroutines")
	return load{kib << 10, int(goroutines)}, err
}

// metric is the value of one series of the dispatcher's.
func (n *tenant) metric(series string) (float64, error) {
	text, err := get(context.Background(), n.MetricsURL())
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(text, "\n"+series+" ")
	if !ok {
		return 0, fmt.Errorf("there is no series %s", series)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(line, 64)
}

// watchLoad looks at the dispatcher until stop is called, which returns the most of each that it saw.
func (n *tenant) watchLoad() (stop func() load) {
	var most load
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if l, err := n.load(); err == nil {
				most.rss, most.goroutines = max(most.rss, l.rss), max(most.goroutines, l.goroutines)
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() load {
		close(quit)
		<-ended
		return most
	}
}

func (n *tenant) loadNow() load {
	n.t.Helper()
	l, err := n.load()
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

// TestHostileReceiversHoldUpNobody: one endpoint for each way to misbehave, and a healthy one among them.
func TestHostileReceiversHoldUpNobody(t *testing.T) {
	n := newTenant(t, "hostile-receivers", "--v=1")
	healthy := receive(t, receiver.Options{})
	n.endpoint("healthy", healthy, onRequest)
	names := []string{"healthy"}
	fleet := hostile.All()
	for _, b := range fleet {
		r, err := hostile.Start(ca, b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		n.endpoint(b.Name, healthy, onRequest, func(s *v1alpha1.WebhookEndpointSpec) {
			s.URL, s.TimeoutSeconds = r.URL("/"+markPath), 3
			s.Retry = v1alpha1.RetrySpec{MaxRetries: 0, InitialBackoffSeconds: 1, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
		})
		names = append(names, b.Name)
	}
	n.start()
	n.eventually(3*time.Minute, func() error {
		text, err := get(t.Context(), n.MetricsURL())
		if err == nil && !strings.Contains(text, fmt.Sprintf("webhook_dispatcher_control_endpoints %d\n", len(names))) {
			err = fmt.Errorf("not all of %d endpoints have come", len(names))
		}
		return err
	})

	before := n.loadNow()
	stop := n.watchLoad()
	var waits []time.Duration
	for i := range hostileRounds {
		posted := time.Now()
		if a := n.accept(call("call.completed", fmt.Sprintf("call_hostile_%d", i))); *a.Deliveries != len(names) {
			t.Fatalf("answer %s, want %d deliveries", a.text, len(names))
		}
		waits = append(waits, n.arrived(healthy, i+1, soon)[i].Time.Sub(posted))
	}
	var seen map[string][]delivery.Outcome
	n.eventually(time.Minute, func() error {
		seen = n.outcomes()
		for _, name := range names {
			if len(seen[name]) < hostileRounds {
				return fmt.Errorf("%s: the attempts came to %v, want %d of them", name, seen[name], hostileRounds)
			}
		}
		return nil
	})
	during := stop()
	var after load
	n.eventually(soon, func() (err error) {
		if after, err = n.load(); err == nil && after.goroutines > before.goroutines+hostileGoroutines {
			err = fmt.Errorf("%d goroutines are left of %d", after.goroutines, before.goroutines)
		}
		return err
	})
	t.Logf("%d hostile receivers, %d events\nbefore  %s\nduring  %s at the most\nafter   %s\nthe healthy one waited %v",
		len(names)-1, hostileRounds, before, during, after, waits)
	for _, b := range fleet {
		// The fleet's own test asks for the outcome exactly; here, a machine that is busy may run out of time first.
		if slices.ContainsFunc(seen[b.Name], func(o delivery.Outcome) bool { return !b.Expects(o) && o != delivery.OutcomeTimedOut }) {
			t.Errorf("%s: the attempts came to %v, want %s", b.Name, seen[b.Name], b.Want)
		}
	}
	if during.rss > before.rss+hostileMemory {
		t.Errorf("memory grew from %s to %s", before, during)
	}
	if slowest := slices.Max(waits); slowest > 5*time.Second {
		t.Errorf("the healthy receiver waited %s", slowest)
	}
	n.quietLog()
}

// outcomes are those of all attempts, by endpoint, as the dispatcher has logged them.
func (n *tenant) outcomes() map[string][]delivery.Outcome {
	n.t.Helper()
	text, err := os.ReadFile(n.Log())
	if err != nil {
		n.t.Fatal(err)
	}
	all := map[string][]delivery.Outcome{}
	for line := range bytes.Lines(text) {
		var said struct{ Msg, Endpoint, Reason string }
		if json.Unmarshal(line, &said) != nil {
			continue // quietLog is about those
		}
		switch said.Msg {
		case "delivered":
			all[said.Endpoint] = append(all[said.Endpoint], delivery.OutcomeDelivered)
		case "attempt failed", "delivery failed":
			all[said.Endpoint] = append(all[said.Endpoint], delivery.Outcome(said.Reason))
		}
	}
	return all
}

// quietLog holds the log against what receivers and producers could have written there.
func (n *tenant) quietLog() {
	n.t.Helper()
	text, err := os.ReadFile(n.Log())
	if err != nil {
		n.t.Fatal(err)
	}
	if len(text) > 1<<20 {
		n.t.Errorf("the log has %d bytes", len(text))
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("{")) {
			n.t.Errorf("the log has a line that is not ours: %.200s", line)
			return
		}
	}
}

// TestHostileProducersHoldUpNobody: a flood of connections that say nothing or say it slowly, and a good producer.
func TestHostileProducersHoldUpNobody(t *testing.T) {
	const flood, posts = 2000, 300
	n := newTenant(t, "hostile-producers")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.start()
	n.ready("a")
	target, err := url.Parse(n.EventsURL())
	if err != nil {
		t.Fatal(err)
	}
	quiet := n.postAll("quiet", posts)
	before := n.loadNow()
	stop := n.watchLoad()

	ctx, cancel := context.WithCancel(t.Context())
	var opened, refused atomic.Int64
	var all sync.WaitGroup
	for i := range flood {
		all.Go(func() { besiege(ctx, target.Host, i, &opened, &refused) })
	}
	n.eventually(soon, func() error {
		if got := opened.Load(); got < flood {
			return fmt.Errorf("%d of %d connections were opened", got, flood)
		}
		return nil
	})
	flooded := n.postAll("flooded", posts)
	during := stop()
	cancel()
	all.Wait()
	var after load
	n.eventually(soon, func() (err error) {
		if after, err = n.load(); err == nil && after.goroutines > before.goroutines+20 {
			err = fmt.Errorf("%d goroutines are left of %d", after.goroutines, before.goroutines)
		}
		return err
	})
	t.Logf("%d connections at a time, %d in all, %d closed by the dispatcher\nbefore  %s; a post took %s\nduring  %s at the most; a post took %s\nafter   %s",
		flood, opened.Load(), refused.Load(), before, quiet, during, flooded, after)
	if during.rss > before.rss+floodMemory {
		t.Errorf("memory grew from %s to %s", before, during)
	}
	if flooded.p99 > 2*time.Second {
		t.Errorf("a post took %s", flooded)
	}
	n.counted("a", 2*posts, 0)
	n.quietLog()
}

// besiege keeps one connection to the dispatcher open for as long as it is let, and opens the next: one in three says
// nothing, one a header without end, one a body of which a byte comes now and then.
func besiege(ctx context.Context, address string, i int, opened, refused *atomic.Int64) {
	said := []string{"", "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-A: ",
		"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 8000000\r\n\r\n{"}[i%3]
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
			opened.Add(1)
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = io.Copy(io.Discard, conn)
			}()
			hold(conn, said, tick.C, gone)
			if end() {
				refused.Add(1)
			}
			_ = conn.Close()
			<-gone
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hold says the beginning and then, unless that is nothing, a byte at each tick, until the other end has gone.
func hold(conn net.Conn, said string, tick <-chan time.Time, gone <-chan struct{}) {
	_, _ = io.WriteString(conn, said)
	for {
		select {
		case <-gone:
			return
		case <-tick:
			if said == "" {
				continue
			}
			if _, err := io.WriteString(conn, " "); err != nil {
				return
			}
		}
	}
}

// latency is how long the posts of a producer took.
type latency struct{ p50, p99, most time.Duration }

func (l latency) String() string {
	return fmt.Sprintf("%s in the median, %s at p99, %s at the most", l.p50.Round(time.Microsecond), l.p99.Round(time.Microsecond), l.most.Round(time.Microsecond))
}

// postAll posts one event after the other, as a producer that keeps its connection and has a key for each event. All of
// them are to be answered 202, at the first time of asking.
func (n *tenant) postAll(name string, posts int) latency {
	n.t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	took := make([]time.Duration, 0, posts)
	for i := range posts {
		begin := time.Now()
		request, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, n.EventsURL(), bytes.NewReader(call("call.completed", fmt.Sprintf("call_%s_%d", name, i))))
		if err != nil {
			n.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%d", name, i))
		response, err := client.Do(request)
		if err != nil {
			n.t.Fatalf("post %d while %s: %v", i, name, err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		took = append(took, time.Since(begin))
		if response.StatusCode != http.StatusAccepted {
			n.t.Fatalf("post %d while %s: answered %d %s", i, name, response.StatusCode, text)
		}
	}
	slices.Sort(took)
	return latency{took[posts/2], took[posts*99/100], took[posts-1]}
}
