// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"fmt"
	"maps"
	"slices"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// Posting is one event as its producer knows it.
type Posting struct {
	UID        string // the producer's name of it, in the body's call.id
	Namespace  string
	Dispatcher int
	Event      string // its type
	Sum        string // of the body
	// Last says that it was posted when all was mended: it is accepted, and signed with the newest key.
	Last bool
	Fate PostingFate
	// EventID and Deliveries are of the answer 202; Deliveries is -1 when the answer was null.
	EventID    string
	Deliveries int
}

// PostingFate is what a producer knows of an event at the end.
type PostingFate string

// The fates. Of an event that is unanswered nothing is known: it may arrive.
const (
	Accepted   PostingFate = "accepted"
	Refused    PostingFate = "refused" // answered with an error
	Unanswered PostingFate = "unanswered"
)

// Letter is a delivery that a queue holds at the end: a dead letter, or one that waits.
type Letter struct {
	Path    string // of the endpoint's URL
	EventID string
	UID     string
	Reason  string
}

// Count is what an endpoint's status says.
type Count struct{ Succeeded, Failed, Pending, Lost int64 }

// Books are everything that is compared.
type Books struct {
	Postings []Posting
	Arrivals []Arrival
	Dead     []Letter
	Waiting  []Letter
	// Unmatched is how many events the queues hold without deliveries.
	Unmatched int64
	// Counts are those of the endpoints that were there all the time, by path.
	Counts map[string]Count
	// Required and Possible are the endpoints, by path, that an event of a namespace and a type has to reach, and may reach.
	Required, Possible func(namespace, event string) map[string]bool
}

// Account is the result.
type Account struct {
	Events     int `json:"events"`
	Accepted   int `json:"accepted"`
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"`
	// Deliveries of the accepted events are Delivered, Failed, EndpointDeleted, Waiting or Lost.
	Deliveries      int `json:"deliveries"`
	Delivered       int `json:"delivered"`
	Failed          int `json:"failed"`
	EndpointDeleted int `json:"endpointDeleted"`
	Waiting         int `json:"waiting"`
	Lost            int `json:"lost"`
	// UnansweredDeliveries came of events that their producer had no answer for.
	UnansweredDeliveries int            `json:"unansweredDeliveries"`
	Duplicates           int            `json:"duplicates"`
	Forged               int            `json:"forged"`
	FailedByReason       map[string]int `json:"failedByReason"`
}

// maxProblems bounds how many of a kind are told apart.
const maxProblems = 10

// audit is an account while it is being made.
type audit struct {
	Books
	Account
	problems []string
	silenced int
	posted   map[string]*Posting        // by UID
	ends     map[string]map[string]ends // by UID and path
}

// ends is where the delivery of one event for one endpoint was found.
type ends struct {
	taken   int
	dead    bool
	waiting bool
	reason  string
}

// Settle makes the account and names what is wrong with it.
func Settle(b Books) (Account, []string) {
	a := &audit{Books: b, posted: map[string]*Posting{}, ends: map[string]map[string]ends{}}
	a.FailedByReason = map[string]int{}
	for _, step := range []func(){a.readPostings, a.readArrivals, a.readLetters, a.judgeEvents, a.judgeSums, a.judgeCounts} {
		step()
	}
	if a.silenced > 0 {
		a.problems = append(a.problems, fmt.Sprintf("and %d more", a.silenced))
	}
	return a.Account, a.problems
}

func (a *audit) problem(format string, args ...any) {
	if len(a.problems) >= maxProblems {
		a.silenced++
		return
	}
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

func (a *audit) readPostings() {
	for i := range a.Postings {
		p := &a.Postings[i]
		a.posted[p.UID] = p
		if p.Last && p.Fate != Accepted {
			a.problem("event %s was posted when all was mended, and is %s", p.UID, p.Fate)
		}
		switch p.Fate {
		case Accepted:
			a.Accepted++
		case Refused:
			a.Refused++
		case Unanswered:
			a.Unanswered++
		}
	}
	a.Events = len(a.Postings)
	if len(a.posted) != len(a.Postings) {
		a.problem("two events have one name")
	}
}

func (a *audit) readArrivals() {
	for _, r := range a.Arrivals {
		if why := a.forgery(r); why != "" {
			a.Forged++
			a.problem("forged: event %s (%s) at %s: %s", r.EventID, r.UID, r.Path, why)
			continue
		}
		if r.Note == NoteTaken {
			if a.posted[r.UID].Last && !r.Newest {
				a.problem("event %s came to %s with the signature of a key that had been replaced", r.UID, r.Path)
			}
			a.end(r.UID, r.Path, func(e *ends) { e.taken++ })
		}
	}
}

// forgery says what is wrong with an arrival; empty when nothing is.
func (a *audit) forgery(r Arrival) string {
	p := a.posted[r.UID]
	switch {
	case r.Note == NoteForged:
		return "no key of the endpoint has signed it"
	case r.Note == NoteTest:
		return ""
	case p == nil:
		return "nobody posted it"
	case p.Fate == Refused:
		return "it was refused"
	case r.Sum != p.Sum:
		return "it has another body"
	case p.EventID != "" && r.EventID != p.EventID:
		return "it has another id"
	case !a.Possible(p.Namespace, p.Event)[r.Path]:
		return "the endpoint did not ask for it"
	}
	p.EventID = r.EventID // of one that was not answered
	return ""
}

func (a *audit) readLetters() {
	read := func(letters []Letter, note func(*ends, Letter)) {
		for _, l := range letters {
			p := a.posted[l.UID]
			if p == nil || p.EventID != "" && l.EventID != p.EventID || !a.Possible(p.Namespace, p.Event)[l.Path] {
				a.Forged++
				a.problem("forged: a queue holds event %s (%s) for %s, which was not posted so", l.EventID, l.UID, l.Path)
				continue
			}
			a.end(l.UID, l.Path, func(e *ends) { note(e, l) })
		}
	}
	read(a.Dead, func(e *ends, l Letter) {
		if e.dead || e.waiting {
			a.problem("event %s for %s is a dead letter twice", l.UID, l.Path)
		}
		e.dead, e.reason = true, l.Reason
	})
	read(a.Books.Waiting, func(e *ends, l Letter) {
		if e.dead || e.waiting {
			a.problem("event %s for %s waits, and is there a second time", l.UID, l.Path)
		}
		e.waiting = true
	})
}

func (a *audit) end(uid, path string, note func(*ends)) {
	if a.ends[uid] == nil {
		a.ends[uid] = map[string]ends{}
	}
	e := a.ends[uid][path]
	note(&e)
	a.ends[uid][path] = e
}

// judgeEvents follows each event to its deliveries' ends.
func (a *audit) judgeEvents() {
	for i := range a.Postings {
		p := &a.Postings[i]
		found := a.ends[p.UID]
		for _, e := range found {
			a.Duplicates += max(e.taken-1, 0)
		}
		switch p.Fate {
		case Accepted:
			a.judgeAccepted(p, found)
		case Unanswered:
			a.UnansweredDeliveries += len(found)
		}
	}
}

func (a *audit) judgeAccepted(p *Posting, found map[string]ends) {
	missing := 0
	for _, path := range slices.Sorted(maps.Keys(a.Required(p.Namespace, p.Event))) {
		if _, ok := found[path]; !ok {
			missing++
			a.problem("lost: event %s (%s) of dispatcher %d, accepted with %d deliveries, for %s", p.EventID, p.UID, p.Dispatcher, p.Deliveries, path)
		}
	}
	if short := p.Deliveries - len(found); short > missing {
		a.problem("lost: event %s (%s) was accepted with %d deliveries, %d are known", p.EventID, p.UID, p.Deliveries, len(found))
		missing = short
	}
	if p.Deliveries >= 0 && len(found) > p.Deliveries {
		a.problem("event %s (%s) was accepted with %d deliveries, %d are known", p.EventID, p.UID, p.Deliveries, len(found))
	}
	a.Lost += missing
	a.Deliveries += len(found) + missing
	for _, e := range found {
		switch {
		case e.waiting:
			a.Account.Waiting++
		case e.dead && e.reason == delivery.ReasonEndpointDeleted:
			a.EndpointDeleted++
		case e.dead:
			a.Failed++
			a.FailedByReason[e.reason]++
		default:
			a.Delivered++
		}
	}
}

func (a *audit) judgeSums() {
	if sum := a.Delivered + a.Failed + a.EndpointDeleted + a.Account.Waiting + a.Lost; sum != a.Deliveries {
		a.problem("%d deliveries, %d are accounted for", a.Deliveries, sum)
	}
	if a.Account.Waiting > 0 {
		a.problem("%d deliveries still wait", a.Account.Waiting)
	}
	if a.Unmatched > 0 {
		a.problem("%d events still have no deliveries", a.Unmatched)
	}
}

// judgeCounts compares what the statuses say with what was found. The unanswered events that were taken in all the same
// count there too.
func (a *audit) judgeCounts() {
	found := map[string]Count{}
	for _, byPath := range a.ends {
		for path, e := range byPath {
			c := found[path]
			switch {
			case e.waiting:
				c.Pending++
			case e.dead:
				c.Failed++
			default:
				c.Succeeded++
			}
			found[path] = c
		}
	}
	for _, path := range slices.Sorted(maps.Keys(a.Counts)) {
		if said, is := a.Counts[path], found[path]; said != is {
			a.problem("the status of %s says %+v, the account %+v", path, said, is)
		}
	}
}
