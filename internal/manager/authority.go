// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The life of a CA: its successor is made and published long before it is used, and a CA stays trusted until it
// expires, so that at any moment dispatchers with a bundle of some weeks ago still connect.
const (
	caLife      = 365 * 24 * time.Hour
	caSucceeds  = caLife * 2 / 3 // the successor is made and joins the bundle
	caPromoted  = caLife * 5 / 6 // the successor signs
	caKnown     = caLife / 12    // how long a successor is in the bundle before it signs, but for the last days
	caLast      = 7 * 24 * time.Hour
	servingLife = 30 * 24 * time.Hour
	caRefresh   = time.Minute // how long a Secret that somebody deleted or changed goes unnoticed
)

// The entries of the Secret that keeps the CA, and beside it a key that has nothing to do with it but has to last longer
// than any process: the one that makes the hashes in the endpoints' status.
const (
	entryCert, entryKey         = "ca.crt", "ca.key"
	entryNextCert, entryNextKey = "next-ca.crt", "next-ca.key"
	entryPreviousCert           = "previous-ca.crt"
	entryHashKey                = "hash.key"
)

const hashKeyBytes = 32

// authority is the CA of the control service. It is kept in a Secret of the manager's namespace, made by whoever comes
// first, and rotated with an overlap.
type authority struct {
	client client.Client // uncached: the manager watches no Secrets but labelled ones
	key    client.ObjectKey
	hosts  []string
	now    func() time.Time

	mu      sync.Mutex
	bundle  []byte
	hashKey []byte
	signer  pair
	serving *tls.Certificate
	renewAt time.Time
}

// NeedLeaderElection is false: a standby serves the same certificate.
func (a *authority) NeedLeaderElection() bool { return false }

// Start refreshes the CA from its Secret until ctx ends.
func (a *authority) Start(ctx context.Context) error {
	ticker := time.NewTicker(caRefresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := a.Refresh(ctx); err != nil {
				// The certificate in use stays good for weeks; the next minute tries again.
				logr.FromContextOrDiscard(ctx).Error(err, "refresh of the control service's CA failed")
			}
		}
	}
}

// Refresh reads the Secret, makes or rotates the CA when it is due, sees to it that the hash key is there, and takes both
// into use.
func (a *authority) Refresh(ctx context.Context) error {
	secret := &corev1.Secret{}
	err := a.client.Get(ctx, a.key, secret)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read the control service's CA: %w", err)
	}
	data, changed, err := rotate(secret.Data, a.now())
	if err != nil {
		return fmt.Errorf("rotate the control service's CA: %w", err)
	}
	stored := secret.Data[entryHashKey]
	if key := lastingHashKey(stored, a.HashKey()); changed || !bytes.Equal(key, stored) {
		secret.Data = maps.Clone(data)
		secret.Data[entryHashKey] = key
		if err := a.store(ctx, secret, missing); err != nil {
			return err
		}
	}
	return a.use(secret.Data)
}

func (a *authority) store(ctx context.Context, secret *corev1.Secret, create bool) error {
	var err error
	if create {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: a.key.Namespace, Name: a.key.Name,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "webhook-operator"}}
		err = a.client.Create(ctx, secret)
	} else {
		err = a.client.Update(ctx, secret)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		// Another replica was first: its CA is the one.
		err = a.client.Get(ctx, a.key, secret)
	}
	if err != nil {
		return fmt.Errorf("store the control service's CA: %w", err)
	}
	return nil
}

func (a *authority) use(data map[string][]byte) error {
	signer, err := readPair(data[entryCert], data[entryKey])
	if err != nil {
		return fmt.Errorf("read the control service's CA: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !bytes.Equal(signer.certPEM, a.signer.certPEM) {
		a.serving = nil
	}
	a.signer, a.bundle = signer, bundle(data)
	if key := data[entryHashKey]; len(key) >= hashKeyBytes {
		a.hashKey = key // otherwise a replica of an older version was first, and the next refresh puts it back
	}
	return nil
}

// HashKey makes the hashes in the endpoints' status. Reconcilers go on with the one of their start.
func (a *authority) HashKey() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hashKey
}

// CABundle is what dispatchers are to trust, in PEM form.
func (a *authority) CABundle() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle
}

// GetCertificate is the serving certificate, made anew when two thirds of its life are over.
func (a *authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.serving != nil && now.Before(a.renewAt) {
		return a.serving, nil
	}
	certificate, err := a.signer.serve(a.hosts, now, servingLife)
	if err != nil {
		return nil, fmt.Errorf("make the control service's certificate: %w", err)
	}
	a.serving, a.renewAt = certificate, now.Add(servingLife*2/3)
	return certificate, nil
}

// rotate is the pure decision about the Secret's content. A CA that cannot be used any more is followed by its
// successor, which dispatchers know already, and by a new one only when there is none.
func rotate(data map[string][]byte, now time.Time) (map[string][]byte, bool, error) {
	current, usable := readValid(data[entryCert], data[entryKey], now)
	next, succeeded := readValid(data[entryNextCert], data[entryNextKey], now)
	switch {
	case succeeded && !usable:
		return map[string][]byte{entryCert: next.certPEM, entryKey: next.keyPEM}, true, nil
	case succeeded && promotes(current, next, now):
		return map[string][]byte{entryCert: next.certPEM, entryKey: next.keyPEM, entryPreviousCert: current.certPEM}, true, nil
	case usable && (succeeded || now.Sub(current.cert.NotBefore) < caSucceeds):
		return data, false, nil
	}
	fresh, err := newPair(now, caLife)
	if err != nil {
		return nil, false, err
	}
	if !usable {
		return map[string][]byte{entryCert: fresh.certPEM, entryKey: fresh.keyPEM}, true, nil
	}
	return map[string][]byte{entryCert: current.certPEM, entryKey: current.keyPEM,
		entryNextCert: fresh.certPEM, entryNextKey: fresh.keyPEM}, true, nil
}

// lastingHashKey is the pure decision about the hash key, which stays whatever becomes of the CA: the stored one, or else
// the one in use, so that a Secret which was deleted gets it back from a replica that runs. It makes a new one when there
// is neither, at a start without the Secret; then every endpoint is tested once more: see controllers.Options.HashKey.
func lastingHashKey(stored, used []byte) []byte {
	switch {
	case len(stored) >= hashKeyBytes:
		return stored
	case len(used) >= hashKeyBytes:
		return used
	}
	key := make([]byte, hashKeyBytes)
	_, _ = rand.Read(key) // never fails: see crypto/rand
	return key
}

func readValid(certPEM, keyPEM []byte, now time.Time) (pair, bool) {
	p, err := readPair(certPEM, keyPEM)
	return p, err == nil && !now.After(p.cert.NotAfter)
}

// promotes says whether the successor's time has come. One that was made late, after the manager was away, is published
// for some time first, as long as there is some left.
func promotes(current, next pair, now time.Time) bool {
	if now.Sub(current.cert.NotBefore) < caPromoted {
		return false
	}
	return now.Sub(next.cert.NotBefore) >= caKnown || current.cert.NotAfter.Sub(now) < caLast
}

func bundle(data map[string][]byte) []byte {
	return bytes.Join([][]byte{data[entryCert], data[entryNextCert], data[entryPreviousCert]}, nil)
}
