// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/garyclub/webhook-operator/internal/sign"
)

// ReceiverOptions are those of the receiver process.
type ReceiverOptions struct {
	// HTTP1 and HTTP2 are the addresses that speak one of them each; Control is plain HTTP for the runner.
	HTTP1, HTTP2, Control string
	CertFile, KeyFile     string
}

// maxWait is how long a request of the runner may wait for arrivals, and waitPoll how exactly that is seen. The times of
// arrivals are noted apart.
const (
	maxWait  = 10 * time.Second
	waitPoll = 5 * time.Millisecond
)

// verifyEvery is which part of the signatures is verified: all of them would cost the receiver more than the rest.
const verifyEvery = 1024

// receive is the receiver process: it serves until it is killed.
func receive(o ReceiverOptions) error {
	certificate, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return err
	}
	r := &receiving{buffers: sync.Pool{New: func() any { b := make([]byte, 0, 64*kiB); return &b }}}
	r.begin(&account{Arrivals: newArrivals(Load{Groups: 1, Fanout: 1})})
	control := &http.Server{Addr: o.Control, Handler: r.control(), ReadHeaderTimeout: maxWait}
	all, _ := errgroup.WithContext(context.Background())
	all.Go(control.ListenAndServe)
	all.Go(func() error { return r.server(o.HTTP1, certificate, false).ListenAndServeTLS("", "") })
	all.Go(func() error { return r.server(o.HTTP2, certificate, true).ListenAndServeTLS("", "") })
	return all.Wait()
}

type receiving struct {
	account atomic.Pointer[account]
	opened  atomic.Int64 // connections, ever
	buffers sync.Pool
}

// account is that of one run.
type account struct {
	*Arrivals
	key    []byte
	opened int64 // connections when it began
}

func (r *receiving) begin(a *account) {
	a.opened = r.opened.Load()
	r.account.Store(a)
}

func (r *receiving) server(address string, certificate tls.Certificate, http2 bool) *http.Server {
	s := &http.Server{
		Addr: address, Handler: r, ReadHeaderTimeout: time.Minute, IdleTimeout: 5 * time.Minute,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
		ErrorLog:  log.New(io.Discard, "", 0), // senders that are killed
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				r.opened.Add(1)
			}
		},
	}
	if http2 {
		s.TLSConfig.NextProtos = []string{"h2"}
	} else {
		s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	return s
}

// ServeHTTP notes a delivery and answers 200.
func (r *receiving) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	a := r.account.Load()
	buffer := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buffer)
	body, err := readBody(q, *buffer)
	if err != nil {
		panic(http.ErrAbortHandler) // the sender has left
	}
	*buffer = body
	endpoint, ok := numberOf(q.URL.Path)
	if !ok || !a.genuine(q.Header, body) {
		a.wrong.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if a.Note(endpoint, body, time.Now()) {
		<-q.Context().Done()
		panic(http.ErrAbortHandler) // no answer: an empty 200 would be one
	}
}

// readBody reads a body of an announced length into the buffer.
func readBody(q *http.Request, buffer []byte) ([]byte, error) {
	if q.ContentLength < 0 || q.ContentLength > 1<<20 {
		return buffer[:0], errors.New("no length that can be")
	}
	n := int(q.ContentLength)
	if cap(buffer) < n {
		buffer = make([]byte, 0, n)
	}
	_, err := io.ReadFull(q.Body, buffer[:n])
	return buffer[:n], err
}

// genuine verifies the signature of one event in verifyEvery.
func (a *account) genuine(h http.Header, body []byte) bool {
	number, _, ok := readStamp(body)
	if !ok || number%verifyEvery != 0 {
		return ok
	}
	return h.Get(sign.HeaderSignature) == sign.Signature([][]byte{a.key}, h.Get(sign.HeaderID), h.Get(sign.HeaderTimestamp), body)
}

// control is what the runner asks.
func (r *receiving) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, q *http.Request) {
		var o Orders
		err := json.NewDecoder(q.Body).Decode(&o)
		key, keyErr := sign.ParseKey(o.Key)
		if err = errors.Join(err, keyErr); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.begin(&account{Arrivals: newArrivals(o.Load), key: key})
	})
	mux.HandleFunc("GET /arrived", r.arrived)
	return mux
}

// arrived answers once so many have arrived, or after maxWait.
func (r *receiving) arrived(w http.ResponseWriter, q *http.Request) {
	a := r.account.Load()
	unique, uniqueErr := strconv.ParseInt(q.FormValue("unique"), 10, 64)
	warm, warmErr := strconv.ParseInt(q.FormValue("warm"), 10, 64)
	if err := errors.Join(uniqueErr, warmErr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(q.Context(), maxWait)
	defer cancel()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for ctx.Err() == nil && (a.unique.Load() < unique || a.warm.Load() < warm) {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	so := a.Arrived()
	so.Connections = r.opened.Load() - a.opened
	_ = json.NewEncoder(w).Encode(so) // the runner has left
}
