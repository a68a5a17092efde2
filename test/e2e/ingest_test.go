// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestTheSameKeyTwiceAtOnceIsOneEvent(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "idempotency")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.start()
	n.ready("a")
	const repeats = 20
	body := call("call.completed", "call_idempotent")
	answers := make([]answer, repeats)
	var all sync.WaitGroup
	for i := range repeats {
		all.Go(func() {
			// A client each, so that each has a connection of its own.
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.EventsURL(), bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Idempotency-Key", "key-1")
			response, err := client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			var text bytes.Buffer
			_, err = text.ReadFrom(response.Body)
			if err != nil {
				t.Error(err)
			}
			answers[i] = answer{code: response.StatusCode, text: text.String()}
		})
	}
	all.Wait()
	for _, a := range answers {
		if a.code != http.StatusAccepted || a.text != answers[0].text {
			t.Errorf("answers %d %s and %s", a.code, a.text, answers[0].text)
		}
	}
	n.counted("a", 1, 0)
	if got := len(eventRequests(r)); got != 1 {
		t.Errorf("the receiver got %d requests, want one", got)
	}
	other, err := post(t.Context(), n.EventsURL(), "application/json", call("call.completed", "call_other"), "Idempotency-Key", "key-1")
	if err != nil || other.code != http.StatusUnprocessableEntity {
		t.Errorf("the key with another body: %d %s, error %v", other.code, other.text, err)
	}
}

func TestCreateThenSendAtOnce(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "at-once")
	first := receive(t, receiver.Options{})
	n.endpoint("first", first)
	n.start()
	n.ready("first")
	for i := range 10 {
		r := receive(t, receiver.Options{})
		name := fmt.Sprintf("next-%d", i)
		n.endpoint(name, r)
		n.ready(name)
		if a := n.accept(call("call.completed", "call_"+name)); *a.Deliveries != i+2 {
			t.Errorf("answer %s, want %d deliveries", a.text, i+2)
		}
		n.arrived(r, 1, soon)
	}
}

func TestBadInputIsRefusedByFieldAndNothingIsKept(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "bad-input")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r, onRequest)
	n.start()
	n.ready("a")
	good := string(call("call.completed", "call_good"))
	for name, tc := range map[string]struct {
		contentType, body string
		code              int
		want              string
	}{
		"no JSON":                  {body: "hello", code: 400, want: ""},
		"an array":                 {body: "[" + good + "]", code: 400, want: ""},
		"two values":               {body: good + good, code: 400, want: ""},
		"missing event":            {body: `{"timestamp":"2026-02-15T14:32:00Z","call":{"id":"x"}}`, code: 422, want: "event"},
		"unknown event":            {body: strings.Replace(good, "call.completed", "call.finished", 1), code: 422, want: "event"},
		"event of the wrong type":  {body: strings.Replace(good, `"call.completed"`, `17`, 1), code: 422, want: "event"},
		"bad timestamp":            {body: strings.Replace(good, "2026-02-15T14:32:00Z", "yesterday", 1), code: 422, want: "timestamp"},
		"missing call id":          {body: `{"event":"call.completed","timestamp":"2026-02-15T14:32:00Z","call":{}}`, code: 422, want: "call.id"},
		"too deep":                 {body: strings.Replace(good, "[ ]", strings.Repeat("[", 200)+strings.Repeat("]", 200), 1), code: 400, want: ""},
		"too large":                {body: strings.Replace(good, "[ ]", `"`+strings.Repeat("x", 256<<10)+`"`, 1), code: 413, want: ""},
		"wrong content type":       {contentType: "text/plain", body: good, code: 415, want: ""},
		"one bad line in a batch":  {contentType: "application/x-ndjson", body: oneLine(good) + "\n{}\n", code: 422, want: "event"},
		"an empty batch":           {contentType: "application/x-ndjson", body: "", code: 400, want: ""},
		"invalid UTF-8 in the end": {body: strings.Replace(good, "und", "\xff", 1), code: 400, want: ""},
	} {
		contentType := tc.contentType
		if contentType == "" {
			contentType = "application/json"
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.EventsURL(), strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", contentType)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var text bytes.Buffer
		_, _ = text.ReadFrom(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != tc.code || response.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(text.String(), tc.want) {
			t.Errorf("%s: %d %s %s, want %d that names %q", name, response.StatusCode, response.Header.Get("Content-Type"), text.String(), tc.code, tc.want)
		}
		if strings.Contains(text.String(), markPhone) || strings.Contains(text.String(), markText) {
			t.Errorf("%s: the answer repeats the payload: %s", name, text.String())
		}
	}
	n.accept([]byte(good))
	n.counted("a", 1, 0)
	if got := len(eventRequests(r)); got != 1 {
		t.Errorf("the receiver got %d requests, want the one good event", got)
	}
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }

// The disk is real: a file takes the space that the dispatcher wants to keep free.
func TestFullDiskIsAnswered503AndGoesOn(t *testing.T) {
	t.Parallel()
	const margin = 1 << 30
	folder := t.TempDir()
	var usage syscall.Statfs_t
	if err := syscall.Statfs(folder, &usage); err != nil {
		t.Fatal(err)
	}
	free := usage.Bavail * uint64(usage.Bsize)
	if free < 2*margin {
		t.Fatalf("this test needs 2 GiB of free disk, there are %d bytes", free)
	}
	n := newTenant(t, "full-disk", "--queue-reserve-bytes="+strconv.FormatUint(free-margin, 10))
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.start()
	n.ready("a")
	n.accept(call("call.completed", "call_before"))

	ballast := filepath.Join(folder, "ballast")
	allocate(t, ballast, 2*margin-margin/2)
	n.eventually(soon, func() error {
		a, err := post(t.Context(), n.EventsURL(), "application/json", call("call.completed", "call_full"))
		if err == nil && a.code != http.StatusServiceUnavailable {
			err = fmt.Errorf("answer %d %s", a.code, a.text)
		}
		return err
	})
	if _, err := get(t.Context(), n.ReadyURL()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.eventually(soon, func() error {
		a, err := post(t.Context(), n.EventsURL(), "application/json", call("call.completed", "call_after"), "Idempotency-Key", "after")
		if err == nil && a.code != http.StatusAccepted {
			err = fmt.Errorf("answer %d %s", a.code, a.text)
		}
		return err
	})
	n.eventually(soon, func() error {
		for _, q := range eventRequests(r) {
			if bytes.Contains(q.Body, []byte("call_after")) {
				return nil
			}
		}
		return errors.New("the event after it was full has not come")
	})
}

func allocate(t *testing.T, name string, size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, size), f.Close()); err != nil {
		t.Fatal(err)
	}
}
