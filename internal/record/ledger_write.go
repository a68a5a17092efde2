// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const (
	// LabelLedger marks the ConfigMaps that hold counters, with the value "true".
	LabelLedger = "webhooks.gary.club/ledger"
	// The annotations are for people; the page inside says it too.
	annotationQueue     = "webhooks.gary.club/queue-id"
	annotationNamespace = "webhooks.gary.club/queue-namespace"

	ledgerPrefix = "webhooks-queue-"
	pageKey      = "counters"
	listLimit    = 100
)

// LedgerName is the name of a queue's ConfigMap. The id comes from a dispatcher, that is from somebody's pod: hashed
// with the namespace it is a valid name, and no namespace reaches the book of another.
func LedgerName(namespace, queueID string) string {
	sum := sha256.Sum256([]byte(namespace + "\x00" + queueID))
	return ledgerPrefix + hex.EncodeToString(sum[:12])
}

// Load reads all books. Before it has succeeded, Count takes nothing; it may be repeated until then.
func (l *Ledger) Load(ctx context.Context) error {
	books := map[bookKey]*book{}
	list := &corev1.ConfigMapList{}
	for {
		err := l.o.Reader.List(ctx, list, client.InNamespace(l.o.Namespace), client.MatchingLabels{LabelLedger: "true"},
			client.Limit(listLimit), client.Continue(list.Continue))
		if err != nil {
			return fmt.Errorf("list ledger: %w", err)
		}
		for i := range list.Items {
			m := &list.Items[i]
			p, err := readPage(m)
			if err != nil {
				l.unreadable(ctx, m.Name, err)
				continue
			}
			books[bookKey{p.namespace, p.queueID}] = bookOf(p, m.ResourceVersion)
		}
		if list.Continue == "" {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded.Load() {
		return nil
	}
	for _, b := range books {
		l.open(b)
	}
	for _, b := range books {
		b.folded = l.isFolded(b.written.namespace, b.written.queueID)
	}
	l.loaded.Store(true)
	return nil
}

func bookOf(p *page, resourceVersion string) *book {
	b := &book{written: *p, lost: p.lost, holder: p.holder, heard: p.heard, resourceVersion: resourceVersion}
	b.bytes = p.size()
	return b
}

func (p *page) size() (bytes int) {
	for uid, t := range p.tallies {
		bytes += t.size(uid)
	}
	for uid, all := range p.gone {
		bytes += goneSize(uid, all)
	}
	return bytes
}

// readPage reads a page where it belongs: one under another queue's name is not believed.
func readPage(m *corev1.ConfigMap) (*page, error) {
	p, err := decodePage(m.BinaryData[pageKey])
	if err != nil {
		return nil, err
	}
	if LedgerName(p.namespace, p.queueID) != m.Name {
		return nil, errPage
	}
	return p, nil
}

// unreadable: the counters come again from their queue, which has them all but those said to be lost.
func (l *Ledger) unreadable(ctx context.Context, name string, err error) {
	l.metrics.ledgerErrors.WithLabelValues(ledgerUnreadable).Inc()
	logr.FromContextOrDiscard(ctx).Error(err, "counters cannot be read and are collected anew", "configMap", name)
}

// Start loads the ledger, if that was not done, and writes until the context ends or Stop is called.
func (l *Ledger) Start(ctx context.Context) error {
	if !l.started.CompareAndSwap(false, true) {
		return errors.New("ledger was started before")
	}
	defer close(l.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !l.loaded.Load() {
		if err := l.Load(ctx); err != nil {
			return err
		}
	}
	var writers sync.WaitGroup
	for range ledgerWriters {
		writers.Go(func() { l.writeAll(WithShare(ctx, ShareStatus)) })
	}
	select {
	case <-ctx.Done():
	case <-l.stop:
	}
	cancel()
	l.stopped.Do(func() { close(l.stop) })
	l.queue.ShutDown() // lets the writers go
	writers.Wait()
	return nil
}

// Stop ends the writing. What is not written is not acknowledged, and is reported again. It may be repeated.
func (l *Ledger) Stop(ctx context.Context) error {
	l.stopped.Do(func() { close(l.stop) })
	l.queue.ShutDown()
	if !l.started.Load() {
		return nil
	}
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Ledger) writeAll(ctx context.Context) {
	for {
		key, shutdown := l.queue.Get()
		if shutdown {
			return
		}
		if err := l.flush(ctx, key); err == nil {
			l.queue.Forget(key)
		} else if ctx.Err() == nil {
			l.metrics.ledgerErrors.WithLabelValues(ledgerWrite).Inc()
			logr.FromContextOrDiscard(ctx).V(1).Info("counters were not written yet", "namespace", key.namespace,
				"queue", key.queueID, "error", err.Error())
			l.queue.AddRateLimited(key)
		}
		l.queue.Done(key)
	}
}

// flush writes a book. Only one does so at a time: the workqueue sees to that.
func (l *Ledger) flush(ctx context.Context, key bookKey) error {
	l.mu.Lock()
	b := l.books[key.namespace][key.queueID]
	if b == nil {
		l.mu.Unlock()
		return nil
	}
	p, changed, dones, version := b.next(), b.changed, b.dones, b.resourceVersion
	b.changed, b.flushing, b.dones, b.due = map[string]tally{}, changed, nil, false
	unwritten := len(changed) > 0 || p.lost != b.written.lost || p.holder != b.written.holder || b.stale()
	l.mu.Unlock()

	var err error
	if unwritten {
		version, err = l.store(ctx, &p, version, (*page).takeIn)
	}

	l.mu.Lock()
	b.flushing = nil
	if err != nil {
		b.restore(changed, dones, version)
		l.mu.Unlock()
		return err
	}
	b.written, b.resourceVersion = p, version
	l.mu.Unlock()
	for _, done := range dones {
		done()
	}
	for _, t := range changed {
		l.o.OnChange(endpoint.Ref{Namespace: t.in(key.namespace), Name: t.name})
	}
	return nil
}

// next is the page with all changes.
func (b *book) next() page {
	p := b.written
	p.lost, p.holder, p.heard = b.lost, b.holder, b.heard
	p.tallies = maps.Clone(b.written.tallies)
	for uid, t := range b.changed {
		p.tallies[uid] = p.tallies[uid].after(t)
	}
	return p
}

// restore puts back what was not written, below what came in the meantime.
func (b *book) restore(changed map[string]tally, dones []func(), version string) {
	maps.Copy(changed, b.changed)
	b.changed = changed
	b.dones = append(dones, b.dones...)
	b.due, b.resourceVersion = true, version
}

// store writes the page and returns the ConfigMap's version. When somebody else wrote it, the leader before at its end,
// then p is joined with what that one acknowledged.
func (l *Ledger) store(ctx context.Context, p *page, version string, join func(p, theirs *page)) (string, error) {
	m := &corev1.ConfigMap{}
	m.Namespace, m.Name, m.ResourceVersion = l.o.Namespace, LedgerName(p.namespace, p.queueID), version
	m.Labels = map[string]string{LabelLedger: "true"}
	m.Annotations = map[string]string{annotationQueue: p.queueID, annotationNamespace: p.namespace}
	for range 3 {
		m.BinaryData = map[string][]byte{pageKey: p.encode()}
		err := l.put(ctx, m)
		switch {
		case err == nil:
			l.metrics.ledgerWrites.Inc()
			return m.ResourceVersion, nil
		case apierrors.IsNotFound(err) && m.ResourceVersion != "":
			m.ResourceVersion, m.UID = "", ""
		case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
			if m.ResourceVersion, err = l.joinStored(ctx, p, m.Name, join); err != nil {
				return "", err
			}
		default:
			return version, fmt.Errorf("write counters: %w", err)
		}
	}
	return m.ResourceVersion, errors.New("write counters: somebody else writes them too")
}

func (l *Ledger) put(ctx context.Context, m *corev1.ConfigMap) error {
	if m.ResourceVersion == "" {
		return l.o.Client.Create(ctx, m)
	}
	return l.o.Client.Update(ctx, m)
}

func (l *Ledger) joinStored(ctx context.Context, p *page, name string, join func(p, theirs *page)) (version string, err error) {
	m := &corev1.ConfigMap{}
	if err := l.o.Reader.Get(ctx, client.ObjectKey{Namespace: l.o.Namespace, Name: name}, m); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	theirs, err := readPage(m)
	if err != nil {
		l.unreadable(ctx, name, err)
		return m.ResourceVersion, nil
	}
	join(p, theirs)
	return m.ResourceVersion, nil
}

// takeIn joins two states of one queue's counters, which are cumulative.
func (p *page) takeIn(theirs *page) {
	for uid, t := range theirs.tallies {
		if ours, known := p.tallies[uid]; known {
			t = t.after(ours)
		}
		p.tallies[uid] = t
	}
}
