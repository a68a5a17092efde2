// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/egresstable"
)

const document = "../../docs/egress-cases.md"

// TestCases holds deliveries to the table, and the document to what was tested. EGRESS_TABLE names a file to write the
// document to.
func TestCases(t *testing.T) {
	egresstable.Run(t, func(t *testing.T, o egress.Options, p *endpoint.Endpoint) *egress.Error {
		ctx, client := within(t, o)
		_, failure := client.Post(ctx, p, http.Header{}, []byte(`{}`))
		return failure
	}, true)
	reached, refused := egresstable.Count()
	t.Logf("%d cases: %d reached, %d refused", reached+refused, reached, refused)
	if path := os.Getenv("EGRESS_TABLE"); path != "" && !t.Failed() {
		if err := os.WriteFile(path, []byte(egresstable.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(written), egresstable.Markdown()); diff != "" {
		t.Errorf("%s is not what was tested; its first lines say how to write it (-written +tested):\n%s", document, diff)
	}
}

// TestCasesOfInspections holds the look at a receiver's certificate to the same table.
func TestCasesOfInspections(t *testing.T) {
	egresstable.Run(t, func(t *testing.T, o egress.Options, p *endpoint.Endpoint) *egress.Error {
		ctx, client := within(t, o)
		_, err := client.Inspect(ctx, p)
		return egresstable.Failure(t, err)
	}, false)
}

func within(t *testing.T, o egress.Options) (context.Context, *egress.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	client := egress.New(o)
	t.Cleanup(client.Close)
	return ctx, client
}
