// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Orders are what a receiver process does, in a file that it reads again whenever it was replaced.
type Orders struct {
	Address  string
	Ledger   string // file that it appends to
	CertFile string
	KeyFile  string
	// HTTP1 keeps it from HTTP/2.
	HTTP1 bool
	// Endpoints by the path of their URL.
	Endpoints map[string]Place
}

// Place is where one endpoint's deliveries arrive.
type Place struct {
	Behaviour Behaviour
	// Keys are the signing keys that its endpoint has or had, the newest last.
	Keys []string
}

// healthPath answers when the receiver is there.
const healthPath = "/healthz"

// write replaces the file at once: a reader finds the old content or the new.
func (o Orders) write(path string) error {
	content, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return replace(path, content)
}

func replace(path string, content []byte) error {
	aside := path + ".new"
	if err := os.WriteFile(aside, content, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, path)
}

// Receive is the receiver process: it serves by the orders in the file, for ever.
func Receive(path string) error {
	r := &receiving{path: path}
	orders, err := r.orders()
	if err != nil {
		return err
	}
	if r.ledger, err = os.OpenFile(orders.Ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	server := &http.Server{
		Addr: orders.Address, Handler: r, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.certificate},
		ErrorLog:  log.New(io.Discard, "", 0), // handshakes that fail are what some faults are about
	}
	if orders.HTTP1 {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	return server.ListenAndServeTLS("", "")
}

type receiving struct {
	path   string
	ledger *os.File

	mu        sync.Mutex
	read      os.FileInfo // of the orders in force
	current   Orders
	verifiers map[string][]*standardwebhooks.Webhook // by path
}

// orders reads the file when it is another one.
func (r *receiving) orders() (Orders, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.path)
	if err != nil {
		return Orders{}, err
	}
	if r.read != nil && os.SameFile(info, r.read) && info.ModTime().Equal(r.read.ModTime()) {
		return r.current, nil
	}
	content, err := os.ReadFile(r.path)
	if err != nil {
		return Orders{}, err
	}
	var o Orders
	if err := json.Unmarshal(content, &o); err != nil {
		return Orders{}, fmt.Errorf("orders: %w", err)
	}
	verifiers, err := verifiersOf(o)
	if err != nil {
		return Orders{}, err
	}
	r.read, r.current, r.verifiers = info, o, verifiers
	return o, nil
}

func verifiersOf(o Orders) (map[string][]*standardwebhooks.Webhook, error) {
	all := map[string][]*standardwebhooks.Webhook{}
	for path, p := range o.Endpoints {
		for _, key := range p.Keys {
			v, err := standardwebhooks.NewWebhook(key)
			if err != nil {
				return nil, fmt.Errorf("key of %s: %w", path, err)
			}
			all[path] = append(all[path], v)
		}
	}
	return all, nil
}

func (r *receiving) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o, err := r.orders()
	if err != nil {
		return nil, err
	}
	c, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	return &c, err
}

// ServeHTTP notes a request before it answers it: whoever kills the process cannot kill what it has written.
func (r *receiving) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path == healthPath {
		return
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the sender has left, or was cut off
	}
	orders, err := r.orders()
	place, known := orders.Endpoints[q.URL.Path]
	if err != nil || !known {
		http.Error(w, "not known here", http.StatusNotFound)
		return
	}
	key, genuine := r.verify(q.URL.Path, body, q.Header)
	d := place.Behaviour.Decide(rand.Float64(), rand.Float64())
	entry := Arrival{Path: q.URL.Path, EventID: q.Header.Get("Webhook-Id"), UID: callID(body), Sum: sumOf(body), Newest: key == len(place.Keys)-1}
	if q.Header.Get("Webhook-Test") != "" {
		entry.Note = NoteTest
	}
	r.act(w, q, d, entry, genuine)
}

func (r *receiving) act(w http.ResponseWriter, q *http.Request, d Decision, entry Arrival, genuine bool) {
	wait(q.Context(), d)
	switch {
	case !genuine:
		entry.Note = NoteForged
	case d.Success() && entry.Note == "":
		entry.Note = NoteTaken
	case d.Action == Forget:
		entry.Note = NoteForgotten
	}
	if entry.Note != "" {
		if _, err := r.ledger.Write(entry.line()); err != nil {
			panic(http.ErrAbortHandler) // what is not noted must not be taken for received
		}
	}
	if d.Action != Answer {
		panic(http.ErrAbortHandler)
	}
	if d.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(d.RetryAfter))
	}
	w.WriteHeader(d.Status)
}

// wait lets the time of an answer pass; a request that hangs ends with its sender's patience.
func wait(ctx context.Context, d Decision) {
	if d.Action == Hang {
		<-ctx.Done()
		return
	}
	if d.Delay == 0 {
		return
	}
	timer := time.NewTimer(d.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// verify returns which of the endpoint's keys has signed.
func (r *receiving) verify(path string, body []byte, h http.Header) (key int, genuine bool) {
	r.mu.Lock()
	verifiers := r.verifiers[path]
	r.mu.Unlock()
	for i, v := range slices.Backward(verifiers) {
		if v.Verify(body, h) == nil {
			return i, true
		}
	}
	return 0, false
}

// callID is where the producer puts its own name of an event.
func callID(body []byte) string {
	var v struct {
		Call struct {
			ID string `json:"id"`
		} `json:"call"`
	}
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	return v.Call.ID
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// ordersFile is where a receiver's orders lie in its folder.
func ordersFile(dir string) string { return filepath.Join(dir, "orders.json") }
