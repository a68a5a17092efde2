// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const (
	// maxPosts bounds the requests under way to one dispatcher: below what it takes at once, so that one which was stopped
	// is not met by a wall afterwards.
	maxPosts    = 200
	postTimeout = 8 * time.Second
	// batchShare and keyShare are the parts of the requests that carry a batch, and an Idempotency-Key.
	batchShare, keyShare = 0.04, 0.3
	smallest, largest    = 5, 25 // events of a batch
	repeatPause          = 250 * time.Millisecond
	repeatFor            = 3 * time.Minute
)

// Producers post events at a fixed pace, whatever becomes of them: an answer that is late holds up nobody.
type Producers struct {
	urls   []string // of the dispatchers
	seed   uint64
	client *http.Client

	mu       sync.Mutex
	postings []Posting
	accepted int
	skipped  int
}

// NewProducers makes those that post to the dispatchers at these URLs.
func NewProducers(seed uint64, urls []string) *Producers {
	transport := &http.Transport{MaxIdleConnsPerHost: maxPosts, MaxConnsPerHost: 0, IdleConnTimeout: 30 * time.Second}
	return &Producers{urls: urls, seed: seed, client: &http.Client{Transport: transport, Timeout: postTimeout}}
}

// Produce posts until so many events are accepted and ctx.Err says that the faults are over, at perSecond events a second.
// It returns when each request has its end.
func (p *Producers) Produce(ctx context.Context, perSecond float64, enough func(accepted int) bool) {
	chance := rand.New(rand.NewPCG(p.seed, 0x6576656e74))
	pace := rate.NewLimiter(rate.Limit(perSecond), largest)
	slots := make([]chan struct{}, len(p.urls))
	for i := range slots {
		slots[i] = make(chan struct{}, maxPosts)
	}
	var posts sync.WaitGroup
	for number := 0; !enough(p.Accepted()); {
		n := 1
		if chance.Float64() < batchShare {
			n = smallest + chance.IntN(largest-smallest)
		}
		to, keyed := chance.IntN(len(p.urls)), chance.Float64() < keyShare
		request := p.compose(chance, number, n, to, keyed)
		number += n
		if pace.WaitN(ctx, n) != nil {
			break
		}
		select {
		case slots[to] <- struct{}{}:
			posts.Go(func() {
				defer func() { <-slots[to] }()
				p.finish(ctx, request)
			})
		default:
			p.mu.Lock()
			p.skipped += n
			p.mu.Unlock()
		}
	}
	posts.Wait()
}

// Last posts one event of each type to each dispatcher, when all is mended.
func (p *Producers) Last(ctx context.Context) {
	for to := range p.urls {
		r := posted{url: p.urls[to], contentType: "application/x-ndjson", key: fmt.Sprintf("key-%d-last-%d", p.seed, to)}
		for i, m := range mix {
			r.add(m.event, fmt.Sprintf("call_%d_last_%d_%d", p.seed, to, i), to)
			r.postings[i].Last = true
		}
		p.finish(ctx, r)
	}
}

// Accepted is how many events were answered 202 so far.
func (p *Producers) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Postings are all events that were posted; Skipped is how many were not, since too many requests were under way.
func (p *Producers) Postings() (all []Posting, skipped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.postings, p.skipped
}

// posted is one request with its events.
type posted struct {
	url, contentType, key string
	body                  []byte
	postings              []Posting
}

func (p *Producers) compose(chance *rand.Rand, number, n, to int, keyed bool) posted {
	r := posted{url: p.urls[to], contentType: "application/json"}
	for i := range n {
		r.add(draw(chance.IntN(1000)), fmt.Sprintf("call_%d_%d", p.seed, number+i), to)
	}
	if n > 1 {
		r.contentType = "application/x-ndjson"
	}
	if keyed {
		r.key = fmt.Sprintf("key-%d-%d", p.seed, number)
	}
	return r
}

// add adds an event.
func (r *posted) add(event v1alpha1.EventType, uid string, to int) {
	line := payload(event, uid)
	r.postings = append(r.postings, Posting{UID: uid, Namespace: dispatchers[to], Dispatcher: to, Event: string(event), Sum: sumOf(line)})
	if len(r.body) > 0 {
		r.body = append(r.body, '\n')
	}
	r.body = append(r.body, line...)
}

// draw picks a type for a number below 1000.
func draw(part int) v1alpha1.EventType {
	for _, m := range mix {
		if part -= m.parts; part < 0 {
			return m.event
		}
	}
	return mix[0].event
}

func payload(event v1alpha1.EventType, uid string) []byte {
	return fmt.Appendf(nil, `{"event":%q,"timestamp":"2026-02-15T14:32:00Z","call":{"id":%q,"agent_id":"agent_probe","duration_seconds":42},`+
		`"summary":"Caller asked about – things, and \u00fcber Preise.","data_collected":{"b":1e2,"a":[ ]}}`, event, uid)
}

// finish posts a request, with a key until it has an answer, and notes what became of its events.
func (p *Producers) finish(ctx context.Context, r posted) {
	give := time.Now().Add(repeatFor)
	for {
		answers, err := p.post(ctx, r)
		var refused *refusal
		again := r.key != "" && ctx.Err() == nil && time.Now().Before(give)
		switch {
		case err == nil:
			p.note(r, Accepted, answers)
			return
		case errors.As(err, &refused) && (refused.code != http.StatusServiceUnavailable || !again):
			p.note(r, Refused, nil)
			return
		case !again:
			p.note(r, Unanswered, nil)
			return
		}
		pause := time.NewTimer(repeatPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

func (p *Producers) note(r posted, fate PostingFate, answers []answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range r.postings {
		posting := r.postings[i]
		posting.Fate = fate
		if fate == Accepted {
			posting.EventID, posting.Deliveries = answers[i].ID, -1
			if answers[i].Deliveries != nil {
				posting.Deliveries = *answers[i].Deliveries
			}
			p.accepted++
		}
		p.postings = append(p.postings, posting)
	}
}

// refusal is an answer other than 202.
type refusal struct{ code int }

func (r *refusal) Error() string { return fmt.Sprintf("answered %d", r.code) }

type answer struct {
	ID         string `json:"id"`
	Deliveries *int   `json:"deliveries"`
}

func (p *Producers) post(ctx context.Context, r posted) ([]answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	request.GetBody = nil // the transport is not to post it a second time by itself
	request.Header.Set("Content-Type", r.contentType)
	if r.key != "" {
		request.Header.Set("Idempotency-Key", r.key)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch {
	case err != nil && response.StatusCode == http.StatusAccepted:
		return nil, err // accepted, but as what is not known
	case response.StatusCode != http.StatusAccepted:
		return nil, &refusal{response.StatusCode}
	case len(r.postings) == 1:
		var one answer
		if err := json.Unmarshal(text, &one); err != nil {
			return nil, err
		}
		return []answer{one}, nil
	}
	var batch struct {
		Events []answer `json:"events"`
	}
	if err := json.Unmarshal(text, &batch); err != nil {
		return nil, err
	}
	if len(batch.Events) != len(r.postings) {
		return nil, fmt.Errorf("%d answers for %d events", len(batch.Events), len(r.postings))
	}
	return batch.Events, nil
}
