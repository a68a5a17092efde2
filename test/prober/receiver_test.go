// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const receiverPath = "/probe-a/steady"

// receiverUnderTest serves without a process of its own.
func receiverUnderTest(t *testing.T, p Place) (*receiving, Orders) {
	t.Helper()
	dir := t.TempDir()
	o := Orders{Ledger: filepath.Join(dir, "ledger"), Endpoints: map[string]Place{receiverPath: p}}
	if err := o.write(ordersFile(dir)); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(o.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return &receiving{path: ordersFile(dir), ledger: file}, o
}

// arrive sends one event signed with the key, and returns the status; 0 when there was no answer.
func arrive(t *testing.T, r *receiving, key string, change ...func(*http.Request)) (status int) {
	t.Helper()
	body := string(payload("call.completed", "call_1"))
	signer, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := signer.Sign("evt_1", now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, receiverPath, strings.NewReader(body))
	q.Header.Set("Webhook-Id", "evt_1")
	q.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	q.Header.Set("Webhook-Signature", signature)
	for _, c := range change {
		c(q)
	}
	w := httptest.NewRecorder()
	defer func() {
		if recover() != nil {
			status = 0
		}
	}()
	r.ServeHTTP(w, q)
	return w.Code
}

func TestReceiverNotesWhatItTakes(t *testing.T) {
	old, next, stranger := newSigningKey(), newSigningKey(), newSigningKey()
	sum := sumOf(payload("call.completed", "call_1"))
	for name, tc := range map[string]struct {
		behaviour Behaviour
		key       string
		change    func(*http.Request)
		want      int
		wantNote  Note
		newest    bool
	}{
		"success":                {key: next, want: 200, wantNote: NoteTaken, newest: true},
		"the key before":         {key: old, want: 200, wantNote: NoteTaken},
		"another's key":          {key: stranger, want: 200, wantNote: NoteForged},
		"refused":                {behaviour: Behaviour{Status: 503}, key: next, want: 503},
		"reset":                  {behaviour: Behaviour{Reset: 1}, key: next},
		"the answer is not sent": {behaviour: Behaviour{Forget: 1}, key: next, wantNote: NoteForgotten, newest: true},
		"a test event": {key: next, change: func(q *http.Request) { q.Header.Set("Webhook-Test", "true") }, want: 200,
			wantNote: NoteTest, newest: true},
	} {
		r, o := receiverUnderTest(t, Place{Behaviour: tc.behaviour, Keys: []string{old, next}})
		change := tc.change
		if change == nil {
			change = func(*http.Request) {}
		}
		if got := arrive(t, r, tc.key, change); got != tc.want {
			t.Errorf("%s: answered %d, want %d", name, got, tc.want)
		}
		got, err := readLedger(o.Ledger)
		if err != nil {
			t.Fatal(err)
		}
		var want []Arrival
		if tc.wantNote != "" {
			want = []Arrival{{tc.wantNote, receiverPath, "evt_1", "call_1", sum, tc.newest}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the ledger differs (-want +got):\n%s", name, diff)
		}
	}
}

func TestReceiverFollowsNewOrders(t *testing.T) {
	key, next := newSigningKey(), newSigningKey()
	r, o := receiverUnderTest(t, Place{Keys: []string{key}})
	if got := arrive(t, r, key); got != 200 {
		t.Fatalf("answered %d", got)
	}
	o.Endpoints[receiverPath] = Place{Behaviour: Behaviour{Status: 410}, Keys: []string{key, next}}
	if err := o.write(r.path); err != nil {
		t.Fatal(err)
	}
	if got := arrive(t, r, next); got != 410 {
		t.Errorf("answered %d after new orders, want 410", got)
	}
	all, err := readLedger(o.Ledger)
	if err != nil || len(all) != 1 {
		t.Errorf("%d lines, error %v, want the first request's alone", len(all), err)
	}
}
