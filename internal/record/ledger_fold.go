// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Folding is what keeps pods that come and go from filling the ledger: the counters of a queue that is gone are added to
// the page of its namespace, and its own page is deleted. Two writes cannot be one, so the page of the namespace names, in
// the same write that adds the counters, the queue that they are of: from then on they count there and no more in the
// queue's own page, whoever reads both. A crash between the two leaves a page that counts nothing and is deleted by the
// next leader. The names stay after that, the latest maxFolded of them, so that a queue which turns up after it was
// folded is not counted twice: its counters stay as they were.
const (
	// foldedQueue is the id of the page of a namespace. No dispatcher's id begins like that.
	foldedQueue = "~folded"
	maxFolded   = 1_000
	// foldsAtOnce bounds what one write folds, and maxLeftovers the pages of a namespace that are folded and not deleted.
	foldsAtOnce  = 50
	maxLeftovers = maxFolded / 2
	digestBytes  = 12
	// maxGone is how many answers 410 of different incarnations are kept of an endpoint.
	maxGone = 8
)

// digestOf names a queue in the page that it was folded into.
func digestOf(namespace, queueID string) string {
	sum := sha256.Sum256([]byte(namespace + "\x00" + queueID))
	return string(sum[:digestBytes])
}

// isFolded needs the lock.
func (l *Ledger) isFolded(namespace, queueID string) bool {
	f := l.books[namespace][foldedQueue]
	return f != nil && slices.Contains(f.written.folded, digestOf(namespace, queueID))
}

// Fold adds the counters of queues that are gone to those of their namespace. What cannot be folded now stays as it is.
// Only one caller folds at a time.
func (l *Ledger) Fold(ctx context.Context, namespace string, queueIDs []string) error {
	pages, kept := l.beginFold(ctx, namespace, queueIDs)
	if len(pages) == 0 {
		return nil
	}
	p, version := l.foldedPage(namespace)
	fold := func(into *page) {
		for _, q := range pages {
			into.fold(q)
		}
		into.prune(kept)
		into.heard = now()
	}
	fold(&p)
	// What the leader before has folded meanwhile is in theirs: ours is added to that, each queue once.
	version, err := l.store(WithShare(ctx, ShareStatus), &p, version, func(p, theirs *page) {
		*p = theirs.clone()
		fold(p)
	})
	l.endFold(namespace, &p, version, err)
	if err != nil {
		return fmt.Errorf("fold counters: %w", err)
	}
	l.metrics.queuesFolded.Add(float64(len(pages)))
	return nil
}

// beginFold returns the pages that can be folded, and whose digests must be kept: queues whose pages are there still.
func (l *Ledger) beginFold(ctx context.Context, namespace string, queueIDs []string) (pages []*page, kept map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes, leftovers := 0, 0
	if f := l.books[namespace][foldedQueue]; f != nil {
		bytes = f.bytes
	}
	kept = map[string]bool{}
	for id, b := range l.books[namespace] {
		kept[digestOf(namespace, id)] = true
		if b.folded {
			leftovers++
		}
	}
	for _, id := range queueIDs[:min(len(queueIDs), foldsAtOnce)] {
		b := l.books[namespace][id]
		if b == nil || id == foldedQueue || b.folding || b.folded || !b.idle() || b.pending() > 0 || leftovers >= maxLeftovers {
			continue
		}
		// An upper bound: most endpoints are in there already.
		if bytes += b.bytes; bytes > maxPageBytes-maxFolded*(digestBytes+1) {
			l.metrics.ledgerErrors.WithLabelValues(ledgerTooLarge).Inc()
			logr.FromContextOrDiscard(ctx).V(1).Info("no room to fold counters", "namespace", namespace, "queue", id)
			break
		}
		b.folding = true
		leftovers++
		q := b.written.clone()
		pages = append(pages, &q)
	}
	return pages, kept
}

// foldedPage is a copy of the namespace's page, as it stands, and its version.
func (l *Ledger) foldedPage(namespace string) (page, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.books[namespace][foldedQueue]; f != nil {
		return f.written.clone(), f.resourceVersion
	}
	return page{namespace: namespace, queueID: foldedQueue, tallies: map[string]tally{}}, ""
}

// endFold puts the written page in force: at once the queues' own pages count no more.
func (l *Ledger) endFold(namespace string, p *page, version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.books[namespace][foldedQueue]
	switch {
	case err == nil && f != nil:
		f.written, f.resourceVersion, f.heard, f.bytes = *p, version, p.heard, p.size()
		l.noteWidth(f, p.tallies)
	case err == nil:
		l.open(bookOf(p, version))
	case f != nil && version != "":
		f.resourceVersion = version
	}
	for id, b := range l.books[namespace] {
		b.folding = false
		b.folded = b.folded || id != foldedQueue && l.isFolded(namespace, id)
	}
}

// DeleteFolded deletes up to n pages that count no more.
func (l *Ledger) DeleteFolded(ctx context.Context, n int) error {
	for _, b := range l.leftovers(n) {
		m := &corev1.ConfigMap{}
		m.Namespace, m.Name = l.o.Namespace, LedgerName(b.written.namespace, b.written.queueID)
		if err := l.o.Client.Delete(WithShare(ctx, ShareDeletes), m); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete folded counters: %w", err)
		}
		l.mu.Lock()
		l.close(b)
		l.mu.Unlock()
	}
	return nil
}

// leftovers are books to delete: those that are folded, and a namespace's own when there is nothing in it that anybody
// will ask for, and no queue has been folded into it for as long as one waits to be.
func (l *Ledger) leftovers(n int) (all []*book) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range l.books {
		for id, b := range of {
			if len(all) >= n {
				return all
			}
			empty := id == foldedQueue && len(of) == 1 && len(b.written.tallies) == 0 && now().Sub(b.heard) >= foldAfter
			if b.folded || empty {
				all = append(all, b)
			}
		}
	}
	return all
}

// absentFor is how long an endpoint must be absent until its counters are dropped. Its UID never comes back; this is
// longer than a cache that has just been filled can be behind.
const absentFor = time.Hour

// Forget drops the counters of endpoints that exist no more; it is called again and again. It costs no write: each page
// lacks them when it is written next, and a page that is read with them loses them again. exists must not block.
func (l *Ledger) Forget(exists func(namespace, uid string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	absent, at := map[string]time.Time{}, now()
	for namespace, of := range l.books {
		for _, b := range of {
			for uid, t := range b.written.tallies {
				if exists(t.in(namespace), uid) {
					continue
				}
				since, before := l.absent[uid]
				if !before {
					since = at
				}
				absent[uid] = since
				if at.Sub(since) >= absentFor {
					b.forget(uid, t)
				}
			}
		}
	}
	l.absent = absent
}

// forget leaves an endpoint alone that is being reported.
func (b *book) forget(uid string, t tally) {
	_, changed := b.changed[uid]
	_, flushing := b.flushing[uid]
	if !changed && !flushing {
		delete(b.written.tallies, uid)
		b.bytes -= t.size(uid) + goneSize(uid, b.written.gone[uid])
		delete(b.written.gone, uid)
	}
}

func (p *page) clone() page {
	c := *p
	c.tallies, c.folded, c.gone = maps.Clone(p.tallies), slices.Clone(p.folded), maps.Clone(p.gone)
	return c
}

// fold adds the counters of a queue, once.
func (p *page) fold(q *page) {
	digest := digestOf(q.namespace, q.queueID)
	if slices.Contains(p.folded, digest) {
		return
	}
	p.folded = append(p.folded, digest)
	for uid, t := range q.tallies {
		p.tallies[uid] = p.tallies[uid].plus(t)
		p.addGone(uid, t.gone)
	}
}

// addGone keeps the latest maxGone incarnations of an endpoint: queues that are folded late may have been told of another
// one than those before. The lists are not shared with clones.
func (p *page) addGone(uid, incarnation string) {
	if incarnation == "" {
		return
	}
	all := slices.DeleteFunc(slices.Clone(p.gone[uid]), func(s string) bool { return s == incarnation })
	if all = append(all, incarnation); len(all) > maxGone {
		all = all[1:]
	}
	if p.gone == nil {
		p.gone = map[string][]string{}
	}
	p.gone[uid] = all
}

// prune forgets the oldest of too many digests, but none whose page is there.
func (p *page) prune(kept map[string]bool) {
	over := len(p.folded) - maxFolded
	p.folded = slices.DeleteFunc(p.folded, func(digest string) bool {
		if over <= 0 || kept[digest] {
			return false
		}
		over--
		return true
	})
}
