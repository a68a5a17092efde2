// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/sign"
)

// capture keeps the last request.
type capture struct {
	header   http.Header
	body     []byte
	deadline time.Duration
	reply    delivery.Reply
	failure  *delivery.Failure
}

func (c *capture) Post(ctx context.Context, _ *endpoint.Endpoint, header http.Header, body []byte) (delivery.Reply, *delivery.Failure) {
	deadline, _ := ctx.Deadline()
	c.header, c.body, c.deadline = header, body, time.Until(deadline)
	return c.reply, c.failure
}

func request() Request {
	p := endpointOf("a")
	p.SigningKeys = [][]byte{sign.NewKey(), sign.NewKey()}
	p.Headers = []endpoint.Header{{Name: "X-Client", Value: "acme"}, {Name: "Webhook-Signature", Value: "forged"},
		{Name: "content-type", Value: "text/plain"}}
	return Request{Endpoint: p, Event: &event.Event{ID: "evt_1", Payload: []byte(`{"event" : "call.completed","née":"😀"}`)}, Number: 2}
}

func TestAttemptIsSignedAndComplete(t *testing.T) {
	c, r := &capture{reply: delivery.Reply{StatusCode: 200}}, request()
	got := Attempt(t.Context(), c, r)
	if got.Outcome != delivery.OutcomeDelivered || got.Number != 2 || got.StatusCode != 200 || got.Start.IsZero() {
		t.Errorf("attempt is %+v", got)
	}
	if !bytes.Equal(c.body, r.Event.Payload) {
		t.Errorf("body is %s", c.body)
	}
	for i, key := range r.Endpoint.SigningKeys {
		verifier, err := standardwebhooks.NewWebhook(sign.FormatKey(key))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(c.body, c.header); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	for name, want := range map[string]string{"content-type": "application/json", "webhook-id": "evt_1", "x-client": "acme", "webhook-test": ""} {
		if got := c.header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	r.Test = true
	Attempt(t.Context(), c, r)
	if got := c.header.Get(HeaderTest); got != "true" {
		t.Errorf("header %s of a test is %q", HeaderTest, got)
	}
}

func TestAttemptTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := &capture{reply: delivery.Reply{StatusCode: 503, RetryAfter: "30"}}, request()
		got := Attempt(t.Context(), c, r)
		if c.deadline != 10*time.Second {
			t.Errorf("the request may take %v, want the endpoint's 10s", c.deadline)
		}
		if got.Outcome != delivery.OutcomeThrottled || got.RetryAfter != 30*time.Second {
			t.Errorf("attempt is %+v", got)
		}
		first := c.header.Get(sign.HeaderTimestamp)
		pause(t.Context(), 5*time.Second)
		Attempt(t.Context(), c, r)
		if second := c.header.Get(sign.HeaderTimestamp); second == first || c.header.Get(sign.HeaderID) != "evt_1" {
			t.Error("the second attempt has the timestamp of the first, or another id")
		}
		late := Attempt(t.Context(), newFakePoster(func(ctx context.Context, _ *endpoint.Endpoint, _ int) (delivery.Reply, *delivery.Failure) {
			return hang(ctx)
		}), r)
		if late.Outcome != delivery.OutcomeTimedOut || late.Duration != 10*time.Second {
			t.Errorf("one that hangs is %v after %v", late.Outcome, late.Duration)
		}
	})
}

func TestAttemptTakesFailuresOver(t *testing.T) {
	c := &capture{failure: &delivery.Failure{Outcome: delivery.OutcomeTLSFailed, Message: "the certificate has expired"}}
	got := Attempt(t.Context(), c, request())
	if got.Outcome != delivery.OutcomeTLSFailed || got.Message != "the certificate has expired" || got.StatusCode != 0 {
		t.Errorf("attempt is %+v", got)
	}
}

func TestPanicIsLoggedWithoutWhatItSaid(t *testing.T) {
	var lines strings.Builder
	log := funcr.New(func(_, args string) { lines.WriteString(args) }, funcr.Options{})
	poster := newFakePoster(func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { panic("hunter2") })
	got := Attempt(logr.NewContext(t.Context(), log), poster, request())
	if got.Outcome != delivery.OutcomeInterrupted || got.Number != 2 || strings.Contains(got.Message, "hunter2") {
		t.Errorf("attempt is %+v", got)
	}
	if text := lines.String(); !strings.Contains(text, "evt_1") || strings.Contains(text, "hunter2") {
		t.Errorf("the log says %s", text)
	}
}
