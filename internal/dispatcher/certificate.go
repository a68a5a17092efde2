// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// certificateKept is how long the files of the certificate are not read again; they are replaced long before it expires.
const certificateKept = 10 * time.Second

// certificate is what the gateway shows, out of two files that a kubelet replaces.
type certificate struct {
	certFile, keyFile string
	now               func() time.Time
	log               logr.Logger

	mu    sync.Mutex
	inUse *tls.Certificate
	pems  [2][]byte
	until time.Time
}

// GetCertificate reads the files again when it is time. While they cannot be used, what is in use stays so.
func (c *certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.inUse != nil && now.Before(c.until) {
		return c.inUse, nil
	}
	c.until = now.Add(certificateKept)
	if err := c.read(); err != nil && c.inUse == nil {
		return nil, err
	} else if err != nil {
		c.log.Error(err, "the gateway's certificate cannot be read again; the one in use stays")
	}
	return c.inUse, nil
}

func (c *certificate) read() error {
	var pems [2][]byte
	for i, path := range []string{c.certFile, c.keyFile} {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("the gateway's certificate: %w", err)
		}
		pems[i] = content
	}
	if c.inUse != nil && bytes.Equal(pems[0], c.pems[0]) && bytes.Equal(pems[1], c.pems[1]) {
		return nil
	}
	// A pair of which one file was replaced already does not fit, and is read again.
	pair, err := tls.X509KeyPair(pems[0], pems[1])
	if err != nil {
		return fmt.Errorf("the gateway's certificate: %w", err)
	}
	c.inUse, c.pems = &pair, pems
	return nil
}
