// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// tokenKept is how long the token's file is not read again; a kubelet replaces it long before it expires.
const tokenKept = 10 * time.Second

// fileCA trusts the CAs that a file holds at the time of each handshake.
type fileCA struct {
	path       string
	serverName string
}

// NewFileCA are the credentials of a client that trusts the CAs in a file. An empty server name stands for the host that
// is called.
func NewFileCA(path, serverName string) credentials.TransportCredentials {
	return &fileCA{path: path, serverName: serverName}
}

func (f *fileCA) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	pem, err := os.ReadFile(f.path)
	if err != nil {
		return nil, nil, fmt.Errorf("manager's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("manager's CA: no certificate in %s", f.path)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: f.serverName}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

func (f *fileCA) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("this is a client's")
}

func (f *fileCA) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, ServerName: f.serverName}).Info()
}

func (f *fileCA) Clone() credentials.TransportCredentials {
	clone := *f
	return &clone
}

func (f *fileCA) OverrideServerName(name string) error {
	f.serverName = name
	return nil
}

// fileToken sends the token that a file holds.
type fileToken struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	token string
	until time.Time
}

// NewFileToken are the credentials of a client that shows the token in a file, which is read again when it is due.
func NewFileToken(path string, now func() time.Time) credentials.PerRPCCredentials {
	return &fileToken{path: path, now: now}
}

func (f *fileToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); !now.Before(f.until) {
		raw, err := os.ReadFile(f.path)
		if err != nil {
			return nil, status.Errorf(codes.Unavailable, "read token: %v", err)
		}
		f.token, f.until = strings.TrimSpace(string(raw)), now.Add(tokenKept)
	}
	return map[string]string{"authorization": "Bearer " + f.token}, nil
}

func (f *fileToken) RequireTransportSecurity() bool { return true }
