// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/process"
)

// ReceiverArgument makes a receiver of the program that it is given to, by the orders in the file named next.
const ReceiverArgument = "receive"

// receiver is one receiver process, which may be killed and started again, with the proxy that leads to it.
type receiver struct {
	number int
	dir    string
	ca     *pki.CA
	proxy  *Proxy
	health *http.Client
	port   io.Closer // claimed

	mu      sync.Mutex
	orders  Orders
	process *process.Process
}

func newReceiver(ctx context.Context, number int, dir string, ca *pki.CA, http1 bool) (*receiver, error) {
	r := &receiver{number: number, dir: dir, ca: ca}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, claim, err := process.ReservePort()
	if err != nil {
		return nil, err
	}
	r.port = claim
	r.orders = Orders{
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), HTTP1: http1, Endpoints: map[string]Place{},
		Ledger: filepath.Join(dir, "ledger"), CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
	}
	r.health = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool()}, DisableKeepAlives: true}}
	for _, p := range places() {
		if p.receiver == number {
			key := newSigningKey()
			r.orders.Endpoints[p.path()] = Place{Behaviour: p.behaviour, Keys: []string{key}}
		}
	}
	if r.proxy, err = StartProxy(r.orders.Address); err != nil {
		return nil, err
	}
	if err := r.certify(time.Now().AddDate(0, 1, 0)); err != nil {
		return nil, err
	}
	if err := r.orders.write(ordersFile(dir)); err != nil {
		return nil, err
	}
	return r, r.start(ctx)
}

// host is the name that its certificate is for.
func (r *receiver) host() string { return "r" + strconv.Itoa(r.number) + "." + zone }

// certify gives it a new certificate.
func (r *receiver) certify(notAfter time.Time) error {
	cert, key := pki.EncodeLeaf(r.ca.Leaf([]string{r.host(), "127.0.0.1"}, pki.WithNotAfter(notAfter)))
	r.mu.Lock()
	defer r.mu.Unlock()
	// Between the two the pair does not fit, so that a handshake fails: a fault like others.
	if err := replace(r.orders.KeyFile, key); err != nil {
		return err
	}
	return replace(r.orders.CertFile, cert)
}

func (r *receiver) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := process.Start(self, []string{ReceiverArgument, ordersFile(r.dir)}, filepath.Join(r.dir, "receiver.log"), nil)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.process = p
	r.mu.Unlock()
	return p.WaitReady(ctx, r.health, "https://"+r.orders.Address+healthPath)
}

// running returns its process.
func (r *receiver) running() *process.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// change gives it other orders.
func (r *receiver) change(change func(*Orders)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.orders)
	return r.orders.write(ordersFile(r.dir))
}

// behave has it treat the requests of one endpoint so.
func (r *receiver) behave(path string, b Behaviour) error {
	return r.change(func(o *Orders) {
		p := o.Endpoints[path]
		p.Behaviour = b
		o.Endpoints[path] = p
	})
}

func (r *receiver) keys(path string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.orders.Endpoints[path].Keys
}

func (r *receiver) arrivals() ([]Arrival, error) { return readLedger(r.orders.Ledger) }

func (r *receiver) close() {
	if p := r.running(); p != nil {
		p.Kill()
	}
	if r.proxy != nil {
		r.proxy.Close()
	}
	_ = r.port.Close() // a UDP socket that carried nothing
}
