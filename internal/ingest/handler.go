// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/event"
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.opt.Now()
	w.Header().Set("Cache-Control", "no-store")
	if s.opt.TLS != nil && len(r.TransferEncoding) > 0 {
		// net/http hides a Content-Length that came with it. Whoever goes by that takes another byte for the beginning of
		// the next request, so there is none on this connection (RFC 9112, section 6.1). Nobody stands between a sidecar
		// and its app.
		w.Header().Set("Connection", "close")
	}
	answer, refused := s.handle(w, r)
	if refused != nil {
		s.metrics.rejected[refused.kind].Inc()
		logr.FromContextOrDiscard(r.Context()).V(1).Info("events refused", "reason", refused.kind)
		if code := refused.status(); s.opt.TLS != nil && (code == http.StatusUnauthorized || code == http.StatusForbidden) {
			w.Header().Set("Connection", "close") // a gateway's connections are for those who may post
		}
		refused.write(w)
	} else {
		header := w.Header()
		header.Set("Content-Type", jsonType)
		header.Set("Content-Length", strconv.Itoa(len(answer)))
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(answer) // a caller that has left may ask again
	}
	s.metrics.duration.Observe(s.opt.Now().Sub(start).Seconds())
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	named, refused := s.route(r)
	if refused != nil {
		return nil, refused
	}
	// Before anything is read: slots and memory are for those who may post.
	namespace, err := s.opt.Authenticate(r, named)
	if err != nil {
		return nil, callerProblem(namespace, err)
	}
	form, refused := formOf(r.Header)
	if refused != nil {
		return nil, refused
	}
	key, refused := keyOf(r.Header)
	if refused != nil {
		return nil, refused
	}
	b := body{budget: &s.buffer, shares: s.shares, namespace: namespace}
	defer b.release()
	if refused := b.read(form, w, r); refused != nil {
		return nil, refused
	}
	// Only now: who sends slowly takes part of the memory, and nothing of the time of others.
	if !handled(r.Context()) {
		return nil, newProblem(kindBusy, "the connection was closed for a new one")
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, newProblem(kindBusy, "too many requests are under way")
	}
	s.metrics.bodyBytes.Add(float64(len(b.bytes)))
	items, refused := s.parse(form, namespace, key, b.bytes)
	if refused != nil {
		return nil, refused
	}
	return s.append(r.Context(), form, items)
}

// route returns the namespace that the path names, empty when it names none.
func (s *Server) route(r *http.Request) (named string, refused *problem) {
	named, ok := s.namedBy(r.URL.Path)
	switch {
	case !ok && s.opt.named:
		return "", newProblem(kindNotFound, "events are posted to "+Path+" or "+namespacePrefix+"NAMESPACE"+namespaceSuffix)
	case !ok:
		return "", newProblem(kindNotFound, "events are posted to "+Path)
	case r.Method != http.MethodPost:
		return "", newProblem(kindMethod, "events are posted: use POST")
	case s.closing.Load():
		return "", newProblem(kindClosing, "the dispatcher is ending")
	}
	return named, nil
}

func (s *Server) namedBy(path string) (namespace string, ok bool) {
	if path == Path {
		return "", true
	}
	rest, ok := strings.CutPrefix(path, namespacePrefix)
	namespace, whole := strings.CutSuffix(rest, namespaceSuffix)
	return namespace, ok && whole && s.opt.named && isNamespace(namespace)
}

// isNamespace says whether a namespace can have that name: a label of RFC 1123.
func isNamespace(name string) bool {
	if len(name) == 0 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parse makes the items, each under its own id, matched against the endpoints of this moment.
func (s *Server) parse(form form, namespace, key string, body []byte) ([]Item, *problem) {
	lines, refused := form.split(body)
	if refused != nil {
		return nil, refused
	}
	snapshot, now := s.opt.Endpoints.Load(), s.opt.Now()
	items := make([]Item, len(lines))
	for i, line := range lines {
		if len(line) > event.MaxPayloadBytes {
			return nil, form.at(i, newProblem(kindTooLarge, tooLarge(event.MaxPayloadBytes)))
		}
		e, err := event.Parse(namespace, line, now)
		if err != nil {
			return nil, form.at(i, fieldProblem(err))
		}
		items[i].Event = e
		e.ID, items[i].Key = identify(namespace, form.key(key, i))
		if snapshot != nil {
			items[i].Matched, items[i].Endpoints = true, snapshot.Match(e)
		}
	}
	return items, nil
}

// identify returns the event's id and the hash of its idempotency key, which is zero without one.
func identify(namespace, key string) (id string, hash [32]byte) {
	if key == "" {
		return event.NewID(), hash
	}
	return event.IDFromKey(namespace, key), sha256.Sum256([]byte(namespace + "\x00" + key))
}

func (s *Server) append(ctx context.Context, form form, items []Item) ([]byte, *problem) {
	bounded, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	accepted, err := s.opt.Queue.Append(bounded, items)
	if spent := quotaProblem(err); spent != nil {
		return nil, spent
	}
	switch {
	case errors.Is(err, ErrKeyReused):
		return nil, newProblem(kindKeyReused, "the Idempotency-Key was used with another body: use a fresh key for a new event")
	case errors.Is(err, ErrFull):
		return nil, newProblem(kindFull, "the queue is full: deliveries must go out first")
	case errors.Is(err, ErrClosed):
		return nil, newProblem(kindClosing, "the dispatcher is ending")
	case err == nil && len(accepted) != len(items):
		err = errors.New("the queue did not answer for every event")
	}
	if err != nil && ctx.Err() == nil { // a caller that has left is no fault of the queue
		s.report.Do(func() { logr.FromContextOrDiscard(ctx).Error(err, "cannot append events", "events", len(items)) })
	}
	if err != nil {
		return nil, newProblem(kindUnavailable, "the queue could not store the events")
	}
	s.count(items, accepted)
	return form.answer(accepted), nil
}

func (s *Server) count(items []Item, accepted []Accepted) {
	for i := range items {
		class := items[i].Event.Type.Class()
		switch {
		case accepted[i].Repeated:
			s.metrics.repeated.Inc()
			continue
		case items[i].Matched && len(items[i].Endpoints) == 0:
			s.metrics.unmatched[class].Inc()
		}
		s.metrics.accepted[class].Inc()
	}
}
