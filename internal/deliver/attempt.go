// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/sign"
)

// HeaderTest marks a test event.
const HeaderTest = "webhook-test"

// Poster sends one request and reads its answer within the context's deadline.
type Poster interface {
	Post(ctx context.Context, p *endpoint.Endpoint, header http.Header, body []byte) (delivery.Reply, *delivery.Failure)
}

// Request is one attempt to be made.
type Request struct {
	Endpoint *endpoint.Endpoint
	Event    *event.Event
	Number   int
	Test     bool
}

// Attempt signs and sends one request and says what it came to. The endpoint's timeout covers it from connecting to the
// last byte of the answer. A panic costs this attempt and nothing else. The manager sends its test events through here
// too.
func Attempt(ctx context.Context, poster Poster, r Request) (attempt delivery.Attempt) {
	p, start := r.Endpoint, time.Now()
	attempt = delivery.Attempt{Number: r.Number, Start: start}
	defer func() {
		if recover() != nil {
			// What was recovered may quote the payload; the stack does not.
			logr.FromContextOrDiscard(ctx).Error(errPanic, "attempt failed by a fault of ours", "namespace", p.Namespace,
				"endpoint", p.Name, "eventID", r.Event.ID, "stack", string(debug.Stack()))
			attempt = interrupted(r.Number, start, "an internal error interrupted the attempt")
		}
	}()
	within, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	reply, failure := poster.Post(within, p, header(r, start), r.Event.Payload)
	attempt.Duration = time.Since(start)
	if failure != nil {
		attempt.Outcome, attempt.Message = failure.Outcome, failure.Message
		return attempt
	}
	attempt.StatusCode = reply.StatusCode
	attempt.RetryAfter = retryAfter(reply.RetryAfter, time.Now())
	attempt.Outcome, attempt.Message = classify(p, reply.StatusCode, attempt.RetryAfter)
	return attempt
}

var errPanic = errors.New("panic")

// interrupted is the attempt that a fault of ours ended.
func interrupted(number int, start time.Time, message string) delivery.Attempt {
	return delivery.Attempt{Number: number, Start: start, Duration: time.Since(start),
		Outcome: delivery.OutcomeInterrupted, Message: message}
}

func header(r Request, at time.Time) http.Header {
	h := make(http.Header, 8+len(r.Endpoint.Headers))
	for _, extra := range r.Endpoint.Headers {
		h.Set(extra.Name, extra.Value)
	}
	// Ours come last, so that nothing can stand in for them.
	timestamp := sign.Timestamp(at)
	h.Set("Content-Type", "application/json")
	h.Set(sign.HeaderID, r.Event.ID)
	h.Set(sign.HeaderTimestamp, timestamp)
	h.Set(sign.HeaderSignature, sign.Signature(r.Endpoint.SigningKeys, r.Event.ID, timestamp, r.Event.Payload))
	if r.Test {
		h.Set(HeaderTest, "true")
	}
	return h
}
