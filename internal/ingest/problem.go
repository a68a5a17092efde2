// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/garyclub/webhook-operator/internal/event"
)

// kind is why a request was refused: the last part of a problem's type, and the reason in the metric.
type kind string

const (
	kindNotFound        kind = "not-found"
	kindMethod          kind = "method-not-allowed"
	kindUnauthenticated kind = "unauthenticated"
	kindForbidden       kind = "forbidden"
	kindNoNamespace     kind = "no-namespace"
	kindUndecided       kind = "caller-undecided"
	kindContentType     kind = "content-type"
	kindEncoding        kind = "content-encoding"
	kindKey             kind = "idempotency-key"
	kindKeyReused       kind = "idempotency-key-reused"
	kindTooLarge        kind = "too-large"
	kindSlow            kind = "body-too-slow"
	kindBroken          kind = "body-broken"
	kindMalformed       kind = "malformed"
	kindField           kind = "invalid-field"
	kindFull            kind = "queue-full"
	kindShare           kind = "namespace-share"
	kindRate            kind = "namespace-rate"
	kindCrowd           kind = "namespace-requests"
	kindBusy            kind = "busy"
	kindClosing         kind = "closing"
	kindUnavailable     kind = "unavailable"
)

const problemBase = "https://webhooks.gary.club/problems/"

type answer struct {
	status int
	title  string
	// header and value go with the answer.
	header, value string
}

var answers = map[kind]answer{
	kindNotFound:        {http.StatusNotFound, "There is nothing here", "", ""},
	kindMethod:          {http.StatusMethodNotAllowed, "This method is not allowed", "Allow", http.MethodPost},
	kindUnauthenticated: {http.StatusUnauthorized, "The caller is not authenticated", "WWW-Authenticate", "Bearer"},
	kindForbidden:       {http.StatusForbidden, "The caller may not post for this namespace", "", ""},
	kindNoNamespace:     {http.StatusForbidden, "The caller has no namespace of its own", "", ""},
	kindUndecided:       {http.StatusServiceUnavailable, "The caller cannot be judged now", "Retry-After", "2"},
	kindContentType:     {http.StatusUnsupportedMediaType, "This content type is not taken", "Accept", jsonType + ", " + ndjsonType},
	kindEncoding:        {http.StatusUnsupportedMediaType, "This content encoding is not taken", "Accept-Encoding", "identity"},
	kindKey:             {http.StatusBadRequest, "The Idempotency-Key is malformed", "", ""},
	kindKeyReused:       {http.StatusUnprocessableEntity, "The Idempotency-Key stands for another body", "", ""},
	kindTooLarge:        {http.StatusRequestEntityTooLarge, "The body is too large", "", ""},
	kindSlow:            {http.StatusRequestTimeout, "The body came too slowly", "Connection", "close"},
	kindBroken:          {http.StatusBadRequest, "The body is incomplete", "Connection", "close"},
	kindMalformed:       {http.StatusBadRequest, "The body is not an event", "", ""},
	kindField:           {http.StatusUnprocessableEntity, "A field of the event is wrong", "", ""},
	kindFull:            {http.StatusServiceUnavailable, "The queue is full", "Retry-After", "5"},
	kindShare:           {http.StatusServiceUnavailable, "The namespace's share of the queue is full", "Retry-After", "5"},
	kindRate:            {http.StatusTooManyRequests, "The namespace posts too many events", "Retry-After", "1"},
	kindCrowd:           {http.StatusTooManyRequests, "The namespace has too many requests under way", "Retry-After", "1"},
	kindBusy:            {http.StatusServiceUnavailable, "Too much is under way", "Retry-After", "1"},
	kindClosing:         {http.StatusServiceUnavailable, "The dispatcher is ending", "Retry-After", "1"},
	kindUnavailable:     {http.StatusServiceUnavailable, "The events could not be stored", "Retry-After", "5"},
}

// problem is a refusal. Its texts are constants and numbers.
type problem struct {
	kind   kind
	detail string
	field  string
	line   int
}

func newProblem(k kind, detail string) *problem { return &problem{kind: k, detail: detail} }

// callerProblem says what a caller that may not post has to do. It quotes a namespace, and nothing of what was sent.
func callerProblem(namespace string, err error) *problem {
	if spent := quotaProblem(err); spent != nil {
		return spent
	}
	switch {
	case errors.Is(err, ErrForbidden) && isNamespace(namespace):
		return newProblem(kindForbidden, "the caller needs the right to create webhookevents.webhooks.gary.club in the namespace "+
			namespace+": bind its service account to the ClusterRole webhook-event-producer there")
	case errors.Is(err, ErrForbidden):
		return newProblem(kindForbidden, "the caller needs the right to create webhookevents.webhooks.gary.club in the namespace")
	case errors.Is(err, ErrNoNamespace):
		return newProblem(kindNoNamespace, "only service accounts have one: post to "+namespacePrefix+"NAMESPACE"+namespaceSuffix)
	case errors.Is(err, ErrUndecided):
		return newProblem(kindUndecided, "the API server could not be asked about the caller: try again")
	}
	return newProblem(kindUnauthenticated, "send Authorization: Bearer with a service account's token of the audience "+
		"webhooks.gary.club/events; one that has expired, or whose pod is gone, is not taken")
}

// fieldProblem tells malformed JSON from a wrong field.
func fieldProblem(err error) *problem {
	var field *event.FieldError
	switch {
	case !errors.As(err, &field):
		return newProblem(kindMalformed, "the payload is not an event")
	case field.Field == "":
		return newProblem(kindMalformed, field.Rule)
	}
	p := newProblem(kindField, field.Rule)
	p.field = field.Field
	return p
}

func (p *problem) status() int { return answers[p.kind].status }

func (p *problem) write(w http.ResponseWriter) {
	a := answers[p.kind]
	// A struct of strings and numbers has no error.
	body, _ := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Field  string `json:"field,omitempty"`
		Line   int    `json:"line,omitempty"`
	}{problemBase + string(p.kind), a.title, a.status, p.detail, p.field, p.line})
	body = append(body, '\n')
	header := w.Header()
	if a.header != "" {
		header.Set(a.header, a.value)
	}
	if p.kind == kindClosing {
		// The next request shall not come over this connection.
		header.Set("Connection", "close")
	}
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a caller that has left needs no reason
}
