// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func newLedger(t *testing.T, w *world) *Ledger {
	t.Helper()
	l, err := NewLedger(LedgerOptions{Client: w, Reader: w, Namespace: "webhook-system"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop(context.Background()) }) // ends those that no test has started
	return l
}

// ledgerTest runs a test with a running ledger, on synctest's clock.
func ledgerTest(t *testing.T, w *world, test func(t *testing.T, l *Ledger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, w)
		if err := l.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := l.Start(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
		test(t, l)
		if err := l.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func counted(succeeded, failed, pending int64) delivery.Counters {
	return delivery.Counters{UID: "uid-a", Ref: endpoint.Ref{Namespace: testNamespace, Name: "a"},
		Succeeded: succeeded, Failed: failed, Pending: pending}
}

// sourceOf is a queue on an emptyDir, in a pod of its own.
func sourceOf(queueID string) delivery.Source {
	return delivery.Source{Namespace: testNamespace, Pod: "pod-" + queueID, PodUID: "pod-uid-" + queueID, QueueID: queueID}
}

func report(t *testing.T, l *Ledger, queueID string, c ...delivery.Counters) *atomic.Int64 {
	t.Helper()
	var done atomic.Int64
	if err := l.Count(t.Context(), sourceOf(queueID), c, func() { done.Add(1) }); err != nil {
		t.Fatal(err)
	}
	return &done
}

func wantTotals(t *testing.T, l *Ledger, want Totals) {
	t.Helper()
	if got, _ := l.Totals(testNamespace, "uid-a"); !reflect.DeepEqual(got, want) {
		t.Errorf("totals are %+v, want %+v", got, want)
	}
}

func TestNothingIsShownOrAcknowledgedBeforeItIsWritten(t *testing.T) {
	w := newWorld()
	var changes atomic.Int64
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		l.o.OnChange = func(endpoint.Ref) { changes.Add(1) }
		done := report(t, l, "q1", counted(5, 1, 2))
		advance(3 * time.Second)
		if _, known := l.Totals(testNamespace, "uid-a"); known || done.Load() != 0 {
			t.Error("shown or acknowledged before it was written")
		}
		again := report(t, l, "q1", counted(6, 1, 1))
		advance(4 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 6, Failed: 1, Pending: 1})
		if n := len(w.written()); done.Load() != 1 || again.Load() != 1 || n != 1 || changes.Load() != 1 {
			t.Errorf("acknowledged %d and %d times, %d writes, %d changes", done.Load(), again.Load(), n, changes.Load())
		}
		same := report(t, l, "q1", counted(6, 1, 1))
		synctest.Wait()
		if same.Load() != 1 {
			t.Error("a report that says nothing new waits")
		}
	})
}

func TestCountersNeverGoBackwards(t *testing.T) {
	w := newWorld()
	first, second := counted(5, 2, 4), counted(3, 3, 0)
	first.LastSuccess, first.Gone = epoch, "g1"
	second.LastSuccess, second.Gone = epoch.Add(-time.Hour), "g2"
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		report(t, l, "q1", first)
		advance(10 * time.Second)
		report(t, l, "q1", second)
		report(t, l, "q2", counted(10, 0, 1))
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 15, Failed: 3, Pending: 1, LastSuccess: epoch, Gone: []string{"g2"}})
	})
	ledgerTest(t, w, func(t *testing.T, l *Ledger) { // the next leader
		wantTotals(t, l, Totals{Succeeded: 15, Failed: 3, Pending: 1, LastSuccess: epoch, Gone: []string{"g2"}})
	})
}

func TestTwoLeadersAtOnceLoseNothing(t *testing.T) {
	w := newWorld()
	ledgerTest(t, w, func(t *testing.T, old *Ledger) {
		report(t, old, "q1", counted(1, 0, 9))
		advance(10 * time.Second)
		next := newLedger(t, w)
		if err := next.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		report(t, next, "q1", counted(7, 0, 1))
		if err := next.flush(t.Context(), bookKey{testNamespace, "q1"}); err != nil {
			t.Fatal(err)
		}
		late := report(t, old, "q1", counted(4, 2, 5))
		advance(10 * time.Second)
		synctest.Wait()
		if late.Load() != 1 {
			t.Error("the late report was not acknowledged")
		}
		third := newLedger(t, w)
		if err := third.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, _ := third.Totals(testNamespace, "uid-a")
		if got.Succeeded != 7 || got.Failed != 2 {
			t.Errorf("totals are %+v", got)
		}
	})
}

func TestAWriteThatFailsIsRepeated(t *testing.T) {
	w, refused := newWorld(), 0
	w.refuse = func(string) error {
		if refused++; refused > 4 {
			return nil
		}
		return errors.New("connection refused")
	}
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		done := report(t, l, "q1", counted(5, 1, 2))
		advance(5500 * time.Millisecond)
		report(t, l, "q1", counted(6, 1, 2))
		advance(time.Minute)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 6, Failed: 1, Pending: 2})
		if done.Load() != 1 {
			t.Errorf("acknowledged %d times", done.Load())
		}
	})
}

func TestAQueueIsLostExactlyOnce(t *testing.T) {
	w := newWorld()
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		report(t, l, "q1", counted(5, 1, 3))
		report(t, l, "q2", counted(0, 0, 1))
		advance(10 * time.Second)
		for i, want := range []struct {
			namespace string
			lost      int64
			known     bool
		}{{testNamespace, 3, true}, {testNamespace, 0, true}, {"other", 0, false}} {
			if lost, known := l.Lose(want.namespace, "q1"); lost != want.lost || known != want.known {
				t.Errorf("%d: %d were lost, known %v; want %+v", i, lost, known, want)
			}
		}
		advance(10 * time.Second)
		l.Lose(testNamespace, "q1")
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 5, Failed: 1, Pending: 1, Lost: 3})
	})
	ledgerTest(t, w, func(t *testing.T, l *Ledger) { // the next leader says it again
		l.Lose(testNamespace, "q1")
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 5, Failed: 1, Pending: 1, Lost: 3})
		report(t, l, "q1", counted(6, 1, 2)) // it lives after all
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 6, Failed: 1, Pending: 3, Lost: 3})
	})
}

func TestNamespacesDoNotReachEachOther(t *testing.T) {
	w := newWorld()
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		report(t, l, "q1", counted(5, 1, 3))
		forged := counted(1_000_000, 0, 0)
		forged.Ref.Namespace = "mallory"
		from := delivery.Source{Namespace: "mallory", Pod: "p", PodUID: "u", QueueID: "q1"}
		if err := l.Count(t.Context(), from, []delivery.Counters{forged}, func() {}); err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 5, Failed: 1, Pending: 3})
	})
}

func TestAPageIsBounded(t *testing.T) {
	l := newLedger(t, newWorld())
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []delivery.Counters
	for i := range 10_000 {
		c := counted(int64(i), 0, 0)
		c.UID = fmt.Sprintf("uid-%d", i)
		all = append(all, c)
	}
	report(t, l, "q1", all...)
	b := l.books[testNamespace]["q1"]
	p := b.next()
	if n := len(p.encode()); n > maxPageBytes || len(p.tallies) < 5_000 {
		t.Errorf("%d endpoints in %d bytes", len(p.tallies), n)
	}
}

func TestCountBeforeLoadIsRefused(t *testing.T) {
	l := newLedger(t, newWorld())
	if err := l.Count(t.Context(), sourceOf("q1"), nil, func() {}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("got %v", err)
	}
}

func samplePage() *page {
	return &page{namespace: testNamespace, queueID: "q1", lost: true, heard: epoch.Add(time.Hour),
		holder: holder{pod: "app-1", podUID: "pod-uid", persistent: true}, folded: []string{digestOf(testNamespace, "q0")},
		tallies: map[string]tally{
			"uid-a": {name: "a", succeeded: 812, failed: 3, unrecorded: 1, pending: 4, lost: 2, lastSuccess: epoch,
				lastFailure: epoch.Add(time.Millisecond), gone: "g"},
			"uid-b": {name: "b", namespace: "other"},
		}}
}

// The bytes stand in clusters: these texts may only be joined by others.
const (
	page1 = "\x01\x04acme\x02q1\x01\x02\x05uid-a\x01a\xac\x06\x03\x01\x04\x02\x80\xd6\xdc\x8d\xc63\x81\xd6\xdc\x8d\xc63\x01g" +
		"\x05uid-b\x01b\x00\x00\x00\x00\x00\x00\x00\x00"
	page2 = "\x02\x04acme\x02q1\x03\x05app-1\apod-uid\x80\xb3\xb8\x8f\xc63\x02\x05uid-a\x01a\x00\xac\x06\x03\x01\x04\x02"
	// what version 3 has more
	page3Gone = "\x02\x05uid-a\x02\x02g1\x02g2\x05uid-b\x01\x01g"
)

func TestAPageIsReadAsItWasWritten(t *testing.T) {
	got, err := decodePage(samplePage().encode())
	if err != nil || !reflect.DeepEqual(got, samplePage()) {
		t.Errorf("read %+v, %v", got, err)
	}
	if b := samplePage().encode(); !bytes.HasPrefix(b, []byte(page2)) {
		t.Errorf("encoded as %q", b)
	}
	b := samplePage().encode()
	for i := range b {
		b[i] ^= 0x40
		if _, err := decodePage(b); err == nil {
			t.Errorf("a wrong byte at %d was not noticed", i)
		}
		b[i] ^= 0x40
	}
}

func TestAPageOfVersion1IsRead(t *testing.T) {
	want := samplePage()
	want.holder, want.heard, want.folded = holder{}, time.Time{}, nil
	want.tallies["uid-b"] = tally{name: "b"}
	got, err := decodePage(appendChecksum([]byte(page1)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := decodePage(appendChecksum([]byte("\x04" + page2[1:]))); !errors.Is(err, errPageNews) {
		t.Errorf("a page of version 4: %v", err)
	}
}

func TestAPageOfVersion3HasTheIncarnationsThatAreGone(t *testing.T) {
	want := samplePage()
	before := want.encode()
	want.gone = map[string][]string{"uid-a": {"g1", "g2"}, "uid-b": {"g"}}
	b := want.encode()
	got, err := decodePage(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	body := append([]byte{3}, before[1:len(before)-checksumBytes]...)
	if more, found := bytes.CutPrefix(b, body); !found || string(more[:len(more)-checksumBytes]) != page3Gone {
		t.Errorf("encoded as %q", b)
	}
	for _, bad := range []string{"\x00", "\x01\x05uid-a\x00", "\x02\x01a\x01\x01g\x01a\x01\x01g", "\x7f"} {
		if _, err := decodePage(appendChecksum(append(bytes.Clone(body), bad...))); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestAnswers410OfSeveralIncarnationsAreFolded(t *testing.T) {
	p := &page{tallies: map[string]tally{"uid-a": {gone: "g"}}} // folded before there was a list
	queue := func(n int, incarnation string, failed time.Time) *page {
		return &page{queueID: fmt.Sprintf("q%d", n), tallies: map[string]tally{"uid-a": {gone: incarnation, lastFailure: failed}}}
	}
	p.fold(queue(1, "g2", epoch))
	p.fold(queue(2, "g1", epoch.Add(time.Hour))) // its last failure is another one
	p.fold(queue(3, "", epoch.Add(2*time.Hour)))
	clone := p.clone()
	p.fold(queue(4, "g2", epoch))
	l := newLedger(t, newWorld())
	p.namespace, p.queueID = testNamespace, foldedQueue
	l.open(bookOf(p, "1"))
	if totals, _ := l.Totals(testNamespace, "uid-a"); !slices.Equal(totals.Gone, []string{"g", "g1", "g2"}) {
		t.Errorf("gone are %v", totals.Gone)
	}
	for i := range maxGone + 1 {
		p.fold(queue(10+i, fmt.Sprintf("h%d", i), epoch))
	}
	if all := p.gone["uid-a"]; len(all) != maxGone || all[0] != "h1" || !slices.Equal(clone.gone["uid-a"], []string{"g2", "g1"}) {
		t.Errorf("kept are %v, and of the clone %v", all, clone.gone)
	}
	b := bookOf(p, "1")
	b.forget("uid-a", p.tallies["uid-a"])
	if b.bytes != 0 || len(b.written.gone) != 0 {
		t.Errorf("%d bytes and %v are left of an endpoint that is gone", b.bytes, b.written.gone)
	}
}

func FuzzDecodePage(f *testing.F) {
	f.Add(samplePage().encode())
	f.Add([]byte{})
	f.Add([]byte(page1))
	gone := samplePage()
	gone.gone = map[string][]string{"uid-a": {"g1", "g2"}}
	f.Add(gone.encode())
	f.Add([]byte{pageVersion, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is made right, or hardly anything would be read.
		if len(b) > 0 {
			b = appendChecksum(b)
		}
		p, err := decodePage(b)
		if err != nil {
			return
		}
		again, err := decodePage(p.encode())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}
