// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// taker is a dispatcher that refuses its first requests.
type taker struct {
	mu      sync.Mutex
	refuse  int
	status  int // of what is refused
	numbers map[int64]int
	kinds   map[string]bool
}

func (k *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil || k.refuse > 0 {
		k.refuse--
		w.WriteHeader(k.status)
		return
	}
	k.kinds[r.Header.Get("Content-Type")] = true
	for line := range bytes.Lines(body) {
		number, _, _ := readStamp(line)
		k.numbers[number]++
	}
	w.WriteHeader(http.StatusAccepted)
}

func TestGeneratorPostsEachEventUntilItIsTaken(t *testing.T) {
	for name, tc := range map[string]struct {
		load      Load
		refuse    int
		status    int
		wantKind  string
		wantError bool
	}{
		"one by one":           {load: flow(300), wantKind: "application/json"},
		"in batches":           {load: flow(300).with(func(l *Load) { l.Batch = 100 }), wantKind: "application/x-ndjson"},
		"at a rate":            {load: flow(30).with(func(l *Load) { l.Rate = 1000 }), wantKind: "application/json"},
		"although refused":     {load: flow(20), refuse: 5, status: http.StatusServiceUnavailable, wantKind: "application/json"},
		"but not when it errs": {load: flow(20), refuse: 1, status: http.StatusBadRequest, wantError: true},
	} {
		t.Run(name, func(t *testing.T) {
			k := &taker{refuse: tc.refuse, status: tc.status, numbers: map[int64]int{}, kinds: map[string]bool{}}
			server := httptest.NewServer(k)
			defer server.Close()
			g, err := generate(GeneratorOptions{Load: tc.load, Address: strings.TrimPrefix(server.URL, "http://"), Connections: 4})
			if (err != nil) != tc.wantError {
				t.Fatalf("error %v", err)
			}
			if tc.wantError {
				return
			}
			if len(k.numbers) != tc.load.Events || !k.kinds[tc.wantKind] || len(k.kinds) != 1 {
				t.Errorf("%d events as %v, want %d as %s", len(k.numbers), k.kinds, tc.load.Events, tc.wantKind)
			}
			for number, times := range k.numbers {
				if times != 1 || number >= int64(tc.load.Events) {
					t.Errorf("event %d was posted %d times", number, times)
				}
			}
			if want := uint64(tc.load.Events / tc.load.Batch); g.Ingest.Count != want || g.Refused != int64(tc.refuse) {
				t.Errorf("%d latencies and %d refused, want %d and %d", g.Ingest.Count, g.Refused, want, tc.refuse)
			}
		})
	}
}
