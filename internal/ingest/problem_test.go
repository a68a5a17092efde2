// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func checkProblem(t testing.TB, w *httptest.ResponseRecorder, status int, k kind, field string, line int) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Field string
		Status, Line               int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %q is no problem document: %v", w.Code, w.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type = %q", got)
	}
	if w.Code != status || p.Status != status || p.Type != problemBase+string(k) || p.Field != field || p.Line != line ||
		p.Title == "" || p.Detail == "" {
		t.Errorf("got %d %s, want %d %s, field %q, line %d", w.Code, w.Body, status, k, field, line)
	}
}

func TestProblemDocuments(t *testing.T) {
	var b strings.Builder
	kinds := make([]kind, 0, len(answers))
	for k := range answers {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		w := httptest.NewRecorder()
		newProblem(k, "what is wrong").write(w)
		header := w.Header()
		header.Del("Content-Length")
		fmt.Fprintf(&b, "%d\n", w.Code)
		if err := header.Write(&b); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", w.Body)
	}
	w := httptest.NewRecorder()
	(&problem{kind: kindField, detail: "is required", field: "call.id", line: 7}).write(w)
	fmt.Fprintf(&b, "%s", w.Body)

	got := strings.ReplaceAll(b.String(), "\r\n", "\n")
	path := filepath.Join("testdata", "problems.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("problems differ; go test -update writes them (-want +got):\n%s", diff)
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture()
	want := zeros()
	if diff := cmp.Diff(want, f.metrics(t)); diff != "" {
		t.Errorf("metrics of a new server differ (-want +got):\n%s", diff)
	}
	f.do(t, request{body: page(t), header: keyed("k")})
	f.do(t, request{body: page(t), header: keyed("k")})
	f.do(t, request{body: custom})
	f.do(t, request{body: "{"})
	want["body_bytes_total"] = float64(2*len(page(t)) + len(custom) + 1)
	want["events_total call.completed"] = 1
	want["events_total custom"] = 1
	want["repeated_total"] = 1
	want["unmatched_total custom"] = 1
	want["rejected_total malformed"] = 1
	want["request_duration_seconds"] = 4
	if diff := cmp.Diff(want, f.metrics(t)); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

func FuzzServeHTTP(f *testing.F) {
	f.Add(jsonType, "key", []byte(page(f)))
	f.Add(ndjsonType, `"a\"b"`, []byte(custom+"\n"+custom+"\r\n"))
	f.Add(ndjsonType, "", []byte("\n\n"))
	f.Add("application/json; charset=utf-8", `"`, []byte(`{"call":{}}`))
	f.Fuzz(func(t *testing.T, contentType, key string, body []byte) {
		x := newFixture()
		q := request{contentType: contentType, body: string(body)}
		if key != "" {
			q.header = keyed(key)
		}
		w := x.do(t, q)
		items := x.queue.appended()
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %q is no JSON", w.Code, w.Body)
		}
		if accepted := w.Code == 202; accepted != (len(items) > 0) {
			t.Fatalf("%d with %d events appended", w.Code, len(items))
		}
		for _, item := range items {
			if !strings.Contains(string(body), string(item.Event.Payload)) || !strings.Contains(w.Body.String(), item.Event.ID) {
				t.Error("a payload is not of the body, or its id not in the answer")
			}
		}
	})
}
