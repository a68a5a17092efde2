// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const (
	// maxStreamsPerPod leaves room for the three streams of a dispatcher on an old and a new connection.
	maxStreamsPerPod = 8
	// noticeDelay is how long changes of a namespace are collected before OnChange hears of them.
	noticeDelay = 200 * time.Millisecond
)

var errTooManyStreams = errors.New("too many streams")

// everywhere is the namespace of a gateway's session, and in what changed it means all namespaces.
const everywhere = ""

// session is one Endpoints stream.
type session struct {
	namespace string
	// taken is the view that the dispatcher has acknowledged as a whole; nil before.
	taken []*endpoint.Endpoint
	has   bool
}

// sessions is who is connected, and what each has taken.
type sessions struct {
	maxStreams int

	mu          sync.Mutex
	streams     int
	byPod       map[string]int
	byNamespace map[string]map[*session]struct{}
	changed     map[string]struct{}
	wake        chan struct{}
}

func newSessions(maxStreams int) *sessions {
	return &sessions{
		maxStreams: maxStreams, byPod: map[string]int{}, byNamespace: map[string]map[*session]struct{}{},
		changed: map[string]struct{}{}, wake: make(chan struct{}, 1),
	}
}

// admit counts a stream of a pod until release is called.
func (s *sessions) admit(podUID string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= s.maxStreams || s.byPod[podUID] >= maxStreamsPerPod {
		return nil, errTooManyStreams
	}
	s.streams++
	s.byPod[podUID]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams--
		if s.byPod[podUID]--; s.byPod[podUID] == 0 {
			delete(s.byPod, podUID)
		}
	}), nil
}

// connected says whether a pod has a stream.
func (s *sessions) connected(podUID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPod[podUID] > 0
}

func (s *sessions) open(namespace string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byNamespace[namespace] == nil {
		s.byNamespace[namespace] = map[*session]struct{}{}
	}
	n := &session{namespace: namespace}
	s.byNamespace[namespace][n] = struct{}{}
	s.notice(namespace)
	return n
}

func (s *sessions) close(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byNamespace[n.namespace], n)
	if len(s.byNamespace[n.namespace]) == 0 {
		delete(s.byNamespace, n.namespace)
	}
	s.notice(n.namespace)
}

func (s *sessions) took(n *session, list []*endpoint.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, namespace := range touched(n, list) {
		s.notice(namespace)
	}
	n.taken, n.has = list, true
}

// touched are the namespaces that a session's new list is news for. The first list of a gateway is for all of them.
func touched(n *session, list []*endpoint.Endpoint) []string {
	if n.namespace != everywhere || !n.has {
		return []string{n.namespace}
	}
	return between(n.taken, list).namespaces
}

// count says how many sessions a namespace has, gateways included, and how many of them have taken that revision.
// Sessions that took the same view share its list, so a list is searched once and not once per session.
func (s *sessions) count(namespace, uid, revision string) (connected, upToDate int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[**endpoint.Endpoint]bool{}
	for _, all := range []map[*session]struct{}{s.byNamespace[namespace], s.byNamespace[everywhere]} {
		for n := range all {
			connected++
			if !n.has || len(n.taken) == 0 {
				continue
			}
			list := &n.taken[0]
			if _, known := found[list]; !known {
				found[list] = holds(within(namespace, n.taken), uid, revision)
			}
			if found[list] {
				upToDate++
			}
		}
	}
	return connected, upToDate
}

// within is the part of a list, which is ordered by namespace, that is of one.
func within(namespace string, list []*endpoint.Endpoint) []*endpoint.Endpoint {
	begin, _ := slices.BinarySearchFunc(list, namespace, func(p *endpoint.Endpoint, n string) int { return strings.Compare(p.Namespace, n) })
	part := list[begin:]
	if end := slices.IndexFunc(part, func(p *endpoint.Endpoint) bool { return p.Namespace != namespace }); end >= 0 {
		part = part[:end]
	}
	return part
}

func holds(list []*endpoint.Endpoint, uid, revision string) bool {
	for _, p := range list {
		if p.UID == uid {
			return p.Revision == revision
		}
	}
	return false
}

// notice needs the lock.
func (s *sessions) notice(namespace string) {
	s.changed[namespace] = struct{}{}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell calls onChange with the namespaces that changed, each once per noticeDelay at most, until ctx ends.
func (s *sessions) tell(ctx context.Context, onChange func(namespace string)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(noticeDelay):
		}
		s.mu.Lock()
		changed := s.changed
		s.changed = map[string]struct{}{}
		s.mu.Unlock()
		for namespace := range changed {
			onChange(namespace)
		}
	}
}
