// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

func named(namespace, name, uid, revision string) *Endpoint {
	return &Endpoint{Ref: Ref{Namespace: namespace, Name: name}, UID: uid, Revision: revision}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func names(list []*Endpoint) []string {
	var all []string
	for _, p := range list {
		all = append(all, p.Name)
	}
	return all
}

func TestRegistryViewIsOrderedAndWithinItsNamespace(t *testing.T) {
	r := NewRegistry()
	r.Set(named("a", "two", "2", "x"))
	r.Set(named("a", "one", "1", "x"))
	r.Set(named("b", "other", "3", "x"))
	list, complete, _ := r.View("a")
	if got, want := names(list), []string{"one", "two"}; !slices.Equal(got, want) {
		t.Errorf("names = %v, want %v", got, want)
	}
	if complete {
		t.Error("complete before Complete")
	}
}

func TestRegistryChangedClosesForItsNamespaceOnly(t *testing.T) {
	r := NewRegistry()
	r.Set(named("a", "one", "1", "x"))
	for name, tc := range map[string]struct {
		change func()
		want   bool
	}{
		"same UID and revision":       {func() { r.Set(named("a", "one", "1", "x")) }, false},
		"another namespace":           {func() { r.Set(named("b", "one", "1", "x")) }, false},
		"remove of what is not there": {func() { r.Remove(Ref{Namespace: "a", Name: "none"}) }, false},
		"new revision":                {func() { r.Set(named("a", "one", "1", "y")) }, true},
		"new object of that name":     {func() { r.Set(named("a", "one", "9", "y")) }, true},
		"remove":                      {func() { r.Remove(Ref{Namespace: "a", Name: "one"}) }, true},
		"complete":                    {func() { r.Complete() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r = NewRegistry()
			r.Set(named("a", "one", "1", "x"))
			_, _, changed := r.View("a")
			tc.change()
			if got := isClosed(changed); got != tc.want {
				t.Errorf("changed = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRegistryListIsSharedUntilItChanges(t *testing.T) {
	r := NewRegistry()
	for i := range 100 {
		r.Set(named("a", fmt.Sprintf("e%03d", i), fmt.Sprint(i), "x"))
	}
	before, _, _ := r.View("a")
	again, _, _ := r.View("a")
	if &before[0] != &again[0] {
		t.Error("a second view made a second list")
	}
	r.Set(named("a", "e050", "50", "y"))
	after, _, _ := r.View("a")
	if before[50].Revision != "x" || after[50].Revision != "y" {
		t.Error("a list that was handed out has changed, or the new one has not")
	}
	if before[49] != after[49] {
		t.Error("an endpoint that did not change is another object")
	}
}

func TestRegistryKnowsTheLatestGeneration(t *testing.T) {
	r := NewRegistry()
	first, second := named("a", "one", "1", "x"), named("a", "one", "1", "x")
	first.Generation, second.Generation = 1, 2
	r.Set(first)
	_, _, changed := r.View("a")
	r.Set(second)
	if got := r.Get(first.Ref); got != second {
		t.Errorf("generation is %d", got.Generation)
	}
	if isClosed(changed) {
		t.Error("it is news for those who view")
	}
	if r.Get(Ref{Namespace: "a", Name: "two"}) != nil || r.Get(Ref{Namespace: "b", Name: "one"}) != nil {
		t.Error("something is known that was not set")
	}
}

func TestRegistryViewAll(t *testing.T) {
	refs := func(list []*Endpoint) (all []string) {
		for _, p := range list {
			all = append(all, p.Namespace+"/"+p.Name)
		}
		return all
	}
	r := NewRegistry()
	empty, complete, first := r.ViewAll()
	if len(empty) != 0 || complete {
		t.Errorf("an empty registry shows %v, complete %v", refs(empty), complete)
	}
	r.Set(named("b", "one", "3", "x"))
	r.Set(named("a", "two", "2", "x"))
	r.Set(named("a", "one", "1", "x"))
	if !isClosed(first) {
		t.Error("a new endpoint was not told")
	}
	before, _, changed := r.ViewAll()
	if want := []string{"a/one", "a/two", "b/one"}; !slices.Equal(refs(before), want) {
		t.Errorf("all are %v, want %v", refs(before), want)
	}
	again, _, _ := r.ViewAll()
	if &before[0] != &again[0] || isClosed(changed) {
		t.Error("a second view made a second list, or nothing was told as a change")
	}
	r.Remove(Ref{Namespace: "a", Name: "two"})
	r.Complete()
	after, complete, _ := r.ViewAll()
	if want := []string{"a/one", "b/one"}; !slices.Equal(refs(after), want) || !complete || !isClosed(changed) {
		t.Errorf("all are %v, complete %v", refs(after), complete)
	}
	if before[2] != after[1] || len(before) != 3 {
		t.Error("a list that was handed out has changed, or what did not change is another object")
	}
}

func TestRegistryManyReaders(t *testing.T) {
	r := NewRegistry()
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			for {
				list, complete, changed := r.View("a")
				if complete && len(list) == 200 {
					return
				}
				<-changed
			}
		})
	}
	for i := range 200 {
		r.Set(named("a", fmt.Sprint(i), fmt.Sprint(i), "x"))
	}
	r.Complete()
	wait.Wait()
}

func whole() *Endpoint {
	return &Endpoint{
		Ref: Ref{Namespace: "ns", Name: "name"}, UID: "uid", Generation: 1, Incarnation: "i",
		URL: "https://example.com", Events: []event.Type{event.CallCompleted}, Agents: []string{"a", "b"},
		Hold: HoldGone, Timeout: time.Second, SuccessCodes: []string{"200"},
		Retry:       Retry{MaxRetries: 3, InitialBackoff: 1, MaxBackoff: 2, Deadline: 3},
		SigningKeys: [][]byte{{1, 2}, {3}}, Headers: []Header{{Name: "n", Value: "v"}},
		TLS:         TLS{CABundle: []byte("ca"), ClientCert: []byte("cert"), ClientKey: []byte("key"), ServerName: "sn"},
		MaxInFlight: 4,
	}
}

func TestRevisionCoversEveryField(t *testing.T) {
	base := Revision(whole())
	var zero func(t *testing.T, path string, root *Endpoint, v reflect.Value)
	zero = func(t *testing.T, path string, root *Endpoint, v reflect.Value) {
		for i := range v.NumField() {
			f, name := v.Field(i), path+v.Type().Field(i).Name
			if f.Kind() == reflect.Struct {
				zero(t, name+".", root, f)
				continue
			}
			if f.IsZero() && name != "Revision" {
				t.Errorf("%s is not set by the test: set it in whole", name)
			}
			kept := reflect.New(f.Type()).Elem()
			kept.Set(f)
			f.SetZero()
			wantChange := name != "Generation" && name != "Revision"
			if got := Revision(root) != base; got != wantChange {
				t.Errorf("without %s the revision changes: %v, want %v", name, got, wantChange)
			}
			f.Set(kept)
		}
	}
	p := whole()
	zero(t, "", p, reflect.ValueOf(p).Elem())
}

func TestRevisionSeparatesFields(t *testing.T) {
	a, b := whole(), whole()
	a.Agents, b.Agents = []string{"ab"}, []string{"a", "b"}
	if Revision(a) == Revision(b) {
		t.Error("one agent ab and two agents a, b have the same revision")
	}
	a, b = whole(), whole()
	a.SigningKeys, b.SigningKeys = [][]byte{{1, 2, 3}}, [][]byte{{1}, {2, 3}}
	if Revision(a) == Revision(b) {
		t.Error("keys that join to the same bytes have the same revision")
	}
}
