// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	fleet "github.com/garyclub/webhook-operator/internal/fixture/hostile"
)

const (
	// fleetTimeout is that of an attempt, and fleetSlack what a machine that is busy with the whole fleet may add to it.
	fleetTimeout = time.Second
	fleetSlack   = 4 * time.Second
	// fleetLeft is how long something may be left of an attempt. A connection over HTTP/2 whose receiver said goodbye before
	// it was used is closed when it does not answer a ping.
	fleetLeft = pingAfter + pingTimeout + 10*time.Second
	// fleetHeap is what the whole fleet and its attempts, all at once, may take of memory; fleetHeapLeft is what may be
	// left of it.
	fleetHeap     = 96 << 20
	fleetHeapLeft = 8 << 20
)

// TestHostileReceivers has an attempt at each of the fleet, all at once: each ends as it should, within its timeout, and
// leaves nothing behind.
func TestHostileReceivers(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells of each frame that it does not know
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	c := client(t)
	goroutines, heap := resting(), heapInUse()
	peak := watchHeap(t)
	var all []*fleet.Receiver
	t.Run("fleet", func(t *testing.T) {
		for _, b := range fleet.All() {
			r, err := fleet.Start(ca, b)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
			t.Run(b.Name, func(t *testing.T) {
				t.Parallel()
				attempt(t, c, r)
			})
		}
	})
	if got := peak.Load(); got > heap+fleetHeap {
		t.Errorf("the heap grew from %d KiB to %d KiB", heap>>10, got>>10)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c.Close()
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the client cannot be closed: something holds its lock")
	}
	for _, r := range all {
		soon(t, func() error {
			if n := r.Open(); n > 0 {
				return fmt.Errorf("%s: %d connections are left", r.Name, n)
			}
			return nil
		})
		r.Close()
	}
	soon(t, func() error {
		if n := resting(); n > goroutines+1 { // the one that watches the heap
			return fmt.Errorf("%d goroutines are left of %d:\n%s", n, goroutines, stacks())
		}
		return nil
	})
	if left := heapInUse(); left > heap+fleetHeapLeft {
		t.Errorf("the heap was %d KiB before and is %d KiB after", heap>>10, left>>10)
	}
	t.Logf("%d receivers: goroutines %d, then %d; heap %d KiB, at most %d, then %d", len(all), goroutines, resting(), heap>>10, peak.Load()>>10, heapInUse()>>10)
}

// attempt makes one and compares what it comes to.
func attempt(t *testing.T, c *Client, r *fleet.Receiver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleetTimeout)
	defer cancel()
	begin := time.Now()
	reply, failure := c.Post(ctx, to(r.URL("/hook")), http.Header{"Webhook-Id": {"evt_1"}}, bytes.Repeat([]byte(" "), 1<<10))
	took := time.Since(begin)
	outcome := delivery.OutcomeRejected
	switch {
	case failure != nil:
		outcome = failure.Outcome
	case reply.StatusCode == http.StatusOK:
		outcome = delivery.OutcomeDelivered
	}
	if !r.Expects(outcome) {
		t.Errorf("the attempt came to %s (%v, %v), want %s", outcome, reply, failure, r.Want)
	}
	if took > fleetTimeout+fleetSlack {
		t.Errorf("it took %s", took)
	}
	if n := r.Written(); n > r.MaxBytes {
		t.Errorf("it got rid of %d KiB, want at most %d", n>>10, r.MaxBytes>>10)
	}
	if n := r.Accepted(); n > maxConnectionsOfOne {
		t.Errorf("one attempt opened %d connections", n)
	}
	t.Logf("%-13s %5d ms, %6d KiB, %d connections", outcome, took.Milliseconds(), r.Written()>>10, r.Accepted())
}

// maxConnectionsOfOne: a second one is opened when the first was closed before a byte of the request was written.
const maxConnectionsOfOne = 8

func resting() int { return runtime.NumGoroutine() }

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watchHeap looks at the heap until the test ends, and keeps the most that it saw.
func watchHeap(t *testing.T) *atomic.Uint64 {
	t.Helper()
	var peak atomic.Uint64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { <-ended })
	return &peak
}

// soon waits for what comes about by itself.
func soon(t *testing.T, check func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(fleetLeft); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

func stacks() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // into memory
	return b.String()
}

// TestReceiverThatOverflowsAWindowHoldsUpNobody: net/http's own HTTP/2 client of Go 1.26 deadlocks on one frame of such a
// receiver, and every later attempt over HTTP/2 with it.
func TestReceiverThatOverflowsAWindowHoldsUpNobody(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	c := client(t)
	for _, b := range fleet.All() {
		if b.Name != "h2-window-overflow" {
			continue
		}
		r, err := fleet.Start(ca, b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		for range 3 {
			attempt(t, c, r)
		}
		return
	}
	t.Fatal("the fleet has no such receiver")
}

// TestMeterLetsGoodReceiversSendAsMuchAsTheyNeed: over one connection far more comes in the end than one answer may have.
func TestMeterLetsGoodReceiversSendAsMuchAsTheyNeed(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var opened atomic.Int64
		body := bytes.Repeat([]byte("x"), maxBodyBytes/2)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
		server.EnableHTTP2 = http2
		server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}}
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
		server.StartTLS()
		c, p := client(t), to(server.URL)
		for range 3 * connectionBytes / len(body) {
			if reply, failure := post(t, c, p, 10*time.Second); failure != nil || reply.StatusCode != http.StatusOK {
				t.Fatalf("HTTP/2 %v: reply %+v, %v", http2, reply, failure)
			}
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("HTTP/2 %v: %d connections were opened, want one", http2, n)
		}
		c.Close()
		server.Close()
	}
}

func TestMeter(t *testing.T) {
	for name, tc := range map[string]struct {
		requests int
		want     int64 // what may be read, of one read more
	}{
		"the handshake alone":   {0, connectionBytes},
		"a request":             {1, 2 * connectionBytes},
		"more than is saved up": {1000, savedBytes},
	} {
		m := newMeter(zeros{})
		for range tc.requests {
			m.allow()
		}
		n, err := io.Copy(io.Discard, m)
		if !errors.Is(err, ErrFlood) || n < tc.want || n > tc.want+64<<10 {
			t.Errorf("%s: %d bytes were read until %v, want %d", name, n, err, tc.want)
		}
	}
}

// zeros is a connection that never ends.
type zeros struct{ net.Conn }

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
