// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// forgetfulQueue takes everything and keeps nothing.
type forgetfulQueue struct{}

func (forgetfulQueue) Append(_ context.Context, items []Item) ([]Accepted, error) {
	accepted := make([]Accepted, len(items))
	for i, item := range items {
		accepted[i] = Accepted{EventID: item.Event.ID, Deliveries: len(item.Endpoints)}
	}
	return accepted, nil
}

// BenchmarkServeHTTP reads, checks, matches and answers a request, without a connection and without a queue.
func BenchmarkServeHTTP(b *testing.B) {
	one := strings.ReplaceAll(page(b), "\n", " ")
	for _, bc := range []struct {
		name, contentType string
		body              []byte
	}{
		{"events=1", jsonType, []byte(one)},
		{"events=100", ndjsonType, bytes.Repeat([]byte(one+"\n"), 100)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			f := newFixture(func(o *Options) { o.Queue = forgetfulQueue{} })
			reader := bytes.NewReader(bc.body)
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, Path, http.NoBody)
			r.Header.Set("Content-Type", bc.contentType)
			r.ContentLength, r.Body = int64(len(bc.body)), io.NopCloser(reader)
			b.SetBytes(int64(len(bc.body)))
			b.ReportAllocs()
			for b.Loop() {
				reader.Reset(bc.body)
				w := httptest.NewRecorder()
				if f.server.ServeHTTP(w, r); w.Code != http.StatusAccepted {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
