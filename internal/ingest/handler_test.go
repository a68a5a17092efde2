// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

func TestOneEventIsAppendedByteForByteAndMatched(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", `Application/JSON;charset="UTF-8"`} {
		f := newFixture()
		body := page(t)
		w := f.do(t, request{contentType: contentType, body: body})
		items := f.queue.appended()
		if w.Code != 202 || len(items) != 1 {
			t.Fatalf("%d %s, %d events", w.Code, w.Body, len(items))
		}
		item := items[0]
		if want := fmt.Sprintf("{\"id\":%q,\"deliveries\":2}\n", item.Event.ID); w.Body.String() != want {
			t.Errorf("answer = %s, want %s", w.Body, want)
		}
		if string(item.Event.Payload) != body || item.Event.Namespace != "clinic" || !item.Event.Accepted.Equal(now) {
			t.Errorf("event = %+v", item.Event)
		}
		if !item.Matched || len(item.Endpoints) != 2 || item.Key != ([32]byte{}) || !strings.HasPrefix(item.Event.ID, "evt_") {
			t.Errorf("item = %+v", item)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type = %q", got)
		}
	}
}

func TestAnswerSaysHowManyEndpointsMatched(t *testing.T) {
	f := newFixture()
	if w := f.do(t, request{body: custom}); !strings.HasSuffix(w.Body.String(), `"deliveries":0}`+"\n") {
		t.Errorf("with no endpoint for it: %s", w.Body)
	}
	f.current.Store(nil)
	w := f.do(t, request{body: page(t)})
	if w.Code != 202 || !strings.HasSuffix(w.Body.String(), `"deliveries":null}`+"\n") {
		t.Errorf("before the first list of endpoints: %d %s", w.Code, w.Body)
	}
	if last := f.queue.appended()[1]; last.Matched || last.Endpoints != nil {
		t.Errorf("item = %+v, want it unmatched", last)
	}
}

func TestBatchIsAppendedInOneCall(t *testing.T) {
	f := newFixture()
	call := strings.ReplaceAll(page(t), "\n", " ")
	w := f.do(t, request{contentType: ndjsonType, body: custom + "\n" + call + "\r\n"})
	items := f.queue.appended()
	if w.Code != 202 || len(items) != 2 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := fmt.Sprintf("{\"events\":[{\"id\":%q,\"deliveries\":0},{\"id\":%q,\"deliveries\":2}]}\n", items[0].Event.ID, items[1].Event.ID)
	if w.Body.String() != want {
		t.Errorf("answer = %s, want %s", w.Body, want)
	}
	if string(items[0].Event.Payload) != custom || string(items[1].Event.Payload) != call {
		t.Error("a payload is not its line")
	}
	if cap(items[0].Event.Payload) != len(custom) {
		t.Error("the first payload has room that belongs to the second")
	}
}

func TestRefusals(t *testing.T) {
	const secret = "SECRET"
	line := strings.Repeat("x", event.MaxPayloadBytes)
	for name, tc := range map[string]struct {
		request
		wantStatus int
		wantKind   kind
		wantField  string
		wantLine   int
		wantHeader string
	}{
		"another path":     {request{path: "/v1/event/SECRET"}, 404, kindNotFound, "", 0, ""},
		"GET":              {request{method: "GET"}, 405, kindMethod, "", 0, "Allow: POST"},
		"no content type":  {request{contentType: "-", body: custom}, 415, kindContentType, "", 0, "Accept: application/json, application/x-ndjson"},
		"text":             {request{contentType: "text/plain", body: custom}, 415, kindContentType, "", 0, ""},
		"another charset":  {request{contentType: "application/json; charset=latin1", body: custom}, 415, kindContentType, "", 0, ""},
		"another argument": {request{contentType: "application/json; profile=x", body: custom}, 415, kindContentType, "", 0, ""},
		"gzip":             {request{header: http.Header{"Content-Encoding": {"gzip"}}}, 415, kindEncoding, "", 0, "Accept-Encoding: identity"},

		"nothing":          {request{}, 400, kindMalformed, "", 0, ""},
		"no JSON":          {request{body: secret}, 400, kindMalformed, "", 0, ""},
		"array":            {request{body: `["SECRET"]`}, 400, kindMalformed, "", 0, ""},
		"duplicate names":  {request{body: `{"SECRET":1,"SECRET":2}`}, 400, kindMalformed, "", 0, ""},
		"two events":       {request{body: custom + custom}, 400, kindMalformed, "", 0, ""},
		"unknown event":    {request{body: `{"event":"SECRET"}`}, 422, kindField, "event", 0, ""},
		"bad timestamp":    {request{body: `{"event":"custom.a","timestamp":"SECRET"}`}, 422, kindField, "timestamp", 0, ""},
		"call without id":  {request{body: strings.Replace(custom, "custom.a", "booking.created", 1)}, 422, kindField, "call.id", 0, ""},
		"event too large":  {request{body: `"` + line + `"`}, 413, kindTooLarge, "", 0, ""},
		"batch of nothing": {request{contentType: ndjsonType, body: "\n"}, 400, kindMalformed, "", 0, ""},
		"third line wrong": {request{contentType: ndjsonType, body: custom + "\n" + custom + "\n{}\n"}, 422, kindField, "event", 3, ""},
		"empty line":       {request{contentType: ndjsonType, body: custom + "\n\n" + custom}, 400, kindMalformed, "", 2, ""},
		"line too large":   {request{contentType: ndjsonType, body: custom + "\n\"" + line + "\""}, 413, kindTooLarge, "", 2, ""},
		"too many lines":   {request{contentType: ndjsonType, body: strings.Repeat(custom+"\n", 1001)}, 413, kindTooLarge, "", 0, ""},
		"batch too large":  {request{contentType: ndjsonType, body: strings.Repeat(line+"\n", 33)}, 413, kindTooLarge, "", 0, ""},

		"empty key":         {request{body: custom, header: keyed("")}, 400, kindKey, keyHeader, 0, ""},
		"two keys":          {request{body: custom, header: keyed("a", "a")}, 400, kindKey, keyHeader, 0, ""},
		"key with a space":  {request{body: custom, header: keyed("SECRET a")}, 400, kindKey, keyHeader, 0, ""},
		"key in UTF-8":      {request{body: custom, header: keyed("SECRETé")}, 400, kindKey, keyHeader, 0, ""},
		"long key":          {request{body: custom, header: keyed(strings.Repeat("k", 256))}, 400, kindKey, keyHeader, 0, ""},
		"empty quoted key":  {request{body: custom, header: keyed(`""`)}, 400, kindKey, keyHeader, 0, ""},
		"open quoted key":   {request{body: custom, header: keyed(`"SECRET`)}, 400, kindKey, keyHeader, 0, ""},
		"key and parameter": {request{body: custom, header: keyed(`"SECRET";a=1`)}, 400, kindKey, keyHeader, 0, ""},
		"escape of nothing": {request{body: custom, header: keyed(`"SECRET\`)}, 400, kindKey, keyHeader, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			w := f.do(t, tc.request)
			checkProblem(t, w, tc.wantStatus, tc.wantKind, tc.wantField, tc.wantLine)
			if name, value, ok := strings.Cut(tc.wantHeader, ": "); ok && w.Header().Get(name) != value {
				t.Errorf("%s = %q, want %q", name, w.Header().Get(name), value)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("the answer shows what was posted: %s", w.Body)
			}
			if len(f.queue.appended()) != 0 {
				t.Error("something was appended")
			}
			for name, n := range f.metrics(t) {
				if strings.HasPrefix(name, "rejected_total") && (n == 1) != (name == "rejected_total "+string(tc.wantKind)) {
					t.Errorf("%s = %v", name, n)
				}
			}
		})
	}
}

func TestErrorsOfTheQueue(t *testing.T) {
	for name, tc := range map[string]struct {
		err        error
		wantStatus int
		wantKind   kind
		wantRetry  string
	}{
		"full":       {fmt.Errorf("append: %w", ErrFull), 503, kindFull, "5"},
		"closed":     {fmt.Errorf("append: %w", ErrClosed), 503, kindClosing, "1"},
		"key reused": {ErrKeyReused, 422, kindKeyReused, ""},
		"disk":       {errors.New("SECRET"), 503, kindUnavailable, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			f.queue.err = tc.err
			w := f.do(t, request{body: custom})
			checkProblem(t, w, tc.wantStatus, tc.wantKind, "", 0)
			if got := w.Header().Get("Retry-After"); got != tc.wantRetry {
				t.Errorf("Retry-After = %q, want %q", got, tc.wantRetry)
			}
			if strings.Contains(w.Body.String(), "SECRET") {
				t.Errorf("the answer shows the error: %s", w.Body)
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := newFixture()
	first := f.do(t, request{body: page(t), header: keyed(`order-7\1`)})
	item := f.queue.appended()[0]
	if want := event.IDFromKey("clinic", `order-7\1`); item.Event.ID != want {
		t.Errorf("id = %s, want %s", item.Event.ID, want)
	}
	if want := sha256.Sum256([]byte("clinic\x00" + `order-7\1`)); item.Key != want {
		t.Errorf("key = %x, want %x", item.Key, want)
	}
	f.current.Store(nil)
	for name, key := range map[string]string{"as it is": `order-7\1`, "quoted": `"order-7\\1"`} {
		if w := f.do(t, request{body: page(t), header: keyed(key)}); w.Code != 202 || w.Body.String() != first.Body.String() {
			t.Errorf("repeat %s: %d %s, want %s", name, w.Code, w.Body, first.Body)
		}
	}
	checkProblem(t, f.do(t, request{body: custom, header: keyed(`order-7\1`)}), 422, kindKeyReused, "", 0)
	if n := len(f.queue.appended()); n != 1 {
		t.Errorf("%d events were appended, want 1", n)
	}
}

func TestIdempotencyKeyOfABatch(t *testing.T) {
	f := newFixture()
	batch := request{contentType: ndjsonType, body: custom + "\n" + custom, header: keyed("k")}
	first := f.do(t, batch)
	if again := f.do(t, batch); again.Code != 202 || again.Body.String() != first.Body.String() {
		t.Errorf("repeat: %d %s, want %s", again.Code, again.Body, first.Body)
	}
	items := f.queue.appended()
	if len(items) != 2 || items[0].Event.ID == items[1].Event.ID || items[0].Key == items[1].Key {
		t.Errorf("items = %+v, want two under ids and keys of their own", items)
	}
	batch.body = custom + "\n" + custom + " "
	checkProblem(t, f.do(t, batch), 422, kindKeyReused, "", 0)
	if w := f.do(t, request{body: custom, header: keyed("k")}); w.Code != 202 {
		t.Errorf("one event under the key of a batch: %d %s", w.Code, w.Body)
	}
}

func TestAuthenticateDecidesTheNamespace(t *testing.T) {
	f := newFixture(func(o *Options) {
		o.Authenticate = func(r *http.Request, _ string) (string, error) {
			if r.Header.Get("Authorization") == "" {
				return "", errors.New("SECRET")
			}
			return "other", nil
		}
	})
	w := f.do(t, request{body: custom})
	checkProblem(t, w, 401, kindUnauthenticated, "", 0)
	if strings.Contains(w.Body.String(), "SECRET") {
		t.Errorf("the answer shows the error: %s", w.Body)
	}
	f.do(t, request{body: page(t), header: http.Header{"Authorization": {"Bearer x"}}})
	if items := f.queue.appended(); len(items) != 1 || items[0].Event.Namespace != "other" || len(items[0].Endpoints) != 0 {
		t.Errorf("items = %+v, want one of the namespace other, which has no endpoints", items)
	}
}

func TestCallersAreToldWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		kind   kind
		detail string
	}{
		"not known":    {errors.New("SECRET"), 401, kindUnauthenticated, "webhooks.gary.club/events"},
		"no right":     {fmt.Errorf("SECRET: %w", ErrForbidden), 403, kindForbidden, "create webhookevents.webhooks.gary.club in the namespace clinic"},
		"no namespace": {ErrNoNamespace, 403, kindNoNamespace, "/v1/namespaces/NAMESPACE/events"},
		"not told":     {fmt.Errorf("SECRET: %w", ErrUndecided), 503, kindUndecided, "try again"},
		"is let in":    {nil, 202, "", ""},
	} {
		f := newFixture(func(o *Options) {
			o.Authenticate = func(_ *http.Request, named string) (string, error) { return named, tc.err }
		})
		w := f.do(t, request{path: "/v1/namespaces/clinic/events", body: page(t)})
		if strings.Contains(w.Body.String(), "SECRET") || !strings.Contains(w.Body.String(), tc.detail) {
			t.Errorf("%s: %s, want %q in it and nothing of the error", name, w.Body, tc.detail)
		}
		if tc.err != nil {
			checkProblem(t, w, tc.status, tc.kind, "", 0)
			continue
		}
		if items := f.queue.appended(); w.Code != 202 || len(items) != 1 || items[0].Event.Namespace != "clinic" {
			t.Errorf("%s: %d with items %+v", name, w.Code, items)
		}
	}
}

func TestAGatewaysConnectionsAreForThoseWhoMayPost(t *testing.T) {
	for err, closed := range map[error]bool{
		nil: false, errors.New("not known"): true, ErrForbidden: true, ErrNoNamespace: true, ErrUndecided: false,
	} {
		for _, config := range []*tls.Config{nil, {MinVersion: tls.VersionTLS12}} {
			f := newFixture(func(o *Options) {
				o.TLS = config
				o.Authenticate = func(*http.Request, string) (string, error) { return "clinic", err }
			})
			w := f.do(t, request{body: page(t)})
			if got := w.Header().Get("Connection") == "close"; got != (closed && config != nil) {
				t.Errorf("%v, TLS %v: the connection is closed: %v", err, config != nil, got)
			}
			if idle := f.server.idleTimeout(); (idle <= 15*time.Second) != (config != nil) {
				t.Errorf("TLS %v: a connection may be idle for %s", config != nil, idle)
			}
		}
	}
}

func TestPathsWithANamespace(t *testing.T) {
	open := func(o *Options) {
		o.Authenticate = func(_ *http.Request, named string) (string, error) { return named, nil }
	}
	for _, path := range []string{"/v1/namespaces//events", "/v1/namespaces/A/events", "/v1/namespaces/a/b/events",
		"/v1/namespaces/a/events/", "/v1/namespaces/a", "/v1/namespaces/-a/events", "/v1/namespaces/" + strings.Repeat("a", 64) + "/events"} {
		checkProblem(t, newFixture(open).do(t, request{path: path, body: custom}), 404, kindNotFound, "", 0)
	}
	// Without somebody who judges callers nobody posts for another namespace.
	checkProblem(t, newFixture().do(t, request{path: "/v1/namespaces/other/events", body: custom}), 404, kindNotFound, "", 0)
}

func TestMoreRequestsThanSlotsAreRefused(t *testing.T) {
	f := newFixture(func(o *Options) { o.MaxConcurrent = 1 })
	f.queue.entered, f.queue.proceed = make(chan struct{}), make(chan struct{})
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- f.do(t, request{body: custom}) }()
	<-f.queue.entered
	w := f.do(t, request{body: custom})
	checkProblem(t, w, 503, kindBusy, "", 0)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(f.queue.proceed)
	if w := <-done; w.Code != 202 {
		t.Errorf("the first one: %d", w.Code)
	}
}

// Bodies of one namespace that stop half way take a quarter of the memory, and nothing of the others'.
func TestBodiesOfANamespaceTakeAPartOfTheMemory(t *testing.T) {
	f := newFixture(func(o *Options) {
		o.Authenticate = func(_ *http.Request, named string) (string, error) { return named, nil }
	})
	big := strings.Repeat(`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","d":"`+strings.Repeat("x", 200_000)+"\"}\n", 40)
	post := func(namespace string) *httptest.ResponseRecorder {
		return f.do(t, request{path: namespacePrefix + namespace + namespaceSuffix, contentType: ndjsonType, body: big})
	}
	half := make(chan struct{})
	stops := iotest.ErrReader(errors.New("it has gone"))
	slow := &pausing{Reader: io.MultiReader(strings.NewReader(big[:len(big)/2+1]), stops), at: len(big)/2 + 1, reached: half, proceed: make(chan struct{})}
	done := make(chan int)
	go func() {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, namespacePrefix+"greedy"+namespaceSuffix, slow)
		r.Header.Set("Content-Type", ndjsonType)
		r.ContentLength = int64(len(big))
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		done <- w.Code
	}()
	<-half
	w := post("greedy")
	checkProblem(t, w, 429, kindCrowd, "", 0)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if w := post("other"); w.Code != 202 {
		t.Errorf("another namespace: %d", w.Code)
	}
	close(slow.proceed)
	if code := <-done; code != 400 {
		t.Errorf("the body that stopped: %d", code)
	}
	if w := post("greedy"); w.Code != 202 {
		t.Errorf("after it: %d", w.Code)
	}
	if left := f.server.buffer.left.Load(); left != f.server.opt.MaxBufferedBytes || len(f.server.shares.taken) != 0 {
		t.Errorf("%d bytes are left, want all; %v is taken by namespace", left, f.server.shares.taken)
	}
}

// pausing tells when that many bytes were read, and goes on when it may.
type pausing struct {
	io.Reader
	at               int
	reached, proceed chan struct{}
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.at == 0 {
		close(p.reached)
		<-p.proceed
	}
	n, err := p.Reader.Read(b)
	p.at -= n
	return n, err
}

// A share has room for a batch as large as may be, and a sidecar's namespace has all.
func TestSharesOfTheMemory(t *testing.T) {
	if s := newShares(MaxBatchBytes); !s.take("a", MaxBatchBytes+1) || s.take("a", 1) || !s.take("b", 1) {
		t.Errorf("the smallest share is %d bytes", s.most)
	}
	if s := newShares(64 << 20); !s.take("a", 16<<20) || s.take("a", 1) {
		t.Errorf("a quarter is %d bytes", s.most)
	}
	if newFixture().server.shares != nil {
		t.Error("a sidecar's namespace has a part of the memory")
	}
}

func TestBodiesInMemoryAreBounded(t *testing.T) {
	f := newFixture(func(o *Options) { o.MaxBufferedBytes = MaxBatchBytes })
	f.queue.entered, f.queue.proceed = make(chan struct{}), make(chan struct{})
	big := strings.Repeat(`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","d":"`+strings.Repeat("x", 200_000)+"\"}\n", 40)
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- f.do(t, request{contentType: ndjsonType, body: big}) }()
	<-f.queue.entered
	checkProblem(t, f.do(t, request{contentType: ndjsonType, body: big}), 503, kindBusy, "", 0)
	close(f.queue.proceed)
	if w := <-done; w.Code != 202 {
		t.Errorf("the first one: %d", w.Code)
	}
	if left := f.server.buffer.left.Load(); left != MaxBatchBytes {
		t.Errorf("%d bytes are left, want all", left)
	}
}
