// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// The file of the last known endpoints, in this order:
//
//	8 bytes   "WHLAST" 0x00 and the format's version, 0x01
//	32 bytes  SHA-256 of all that follows
//	32 bytes  fingerprint: SHA-256 of the description of the message below, in the version that wrote the file
//	rest      an EndpointsResponse that carries the endpoints
//
// It has keys in it, so its mode is 0600.
var lastKnownMagic = []byte("WHLAST\x00\x01")

const (
	lastKnownHeader = 8 + sha256.Size
	// maxLastKnownBytes bounds what is read at a start.
	maxLastKnownBytes = 256 << 20
)

// ErrDamaged says that the file of the last known endpoints cannot be read. The dispatcher goes on without it.
var ErrDamaged = errors.New("the file of the last known endpoints is damaged")

// SaveLastKnown puts the endpoints in place of what the file holds. After a crash it holds the one or the other.
func SaveLastKnown(path string, list []*endpoint.Endpoint) error {
	content, err := encodeLastKnown(list)
	if err != nil {
		return fmt.Errorf("save last known endpoints: %w", err)
	}
	// One name for the temporary file, so that crashes do not leave many; there is one writer.
	if err := writeSynced(path+".tmp", content); err != nil {
		return fmt.Errorf("save last known endpoints: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("save last known endpoints: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

// LoadLastKnown returns what was saved; nothing when there is no file, and ErrDamaged when it cannot be understood. An
// endpoint that another version of this program has saved has no revision, so that the manager sends it again: that
// version may have left out fields that it did not know.
func LoadLastKnown(path string) ([]*endpoint.Endpoint, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load last known endpoints: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(f, maxLastKnownBytes+1))
	if err != nil {
		return nil, fmt.Errorf("load last known endpoints: %w", err)
	}
	return decodeLastKnown(content)
}

func encodeLastKnown(list []*endpoint.Endpoint) ([]byte, error) {
	m := &controlpb.EndpointsResponse{}
	for _, p := range list {
		m.Endpoints = append(m.Endpoints, endpointToProto(p))
	}
	body, err := proto.MarshalOptions{}.MarshalAppend(fingerprint(), m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return bytes.Join([][]byte{lastKnownMagic, sum[:], body}, nil), nil
}

func decodeLastKnown(content []byte) ([]*endpoint.Endpoint, error) {
	if len(content) > maxLastKnownBytes || len(content) < lastKnownHeader+sha256.Size ||
		!bytes.HasPrefix(content, lastKnownMagic) {
		return nil, ErrDamaged
	}
	body := content[lastKnownHeader:]
	sum := sha256.Sum256(body)
	if !bytes.Equal(sum[:], content[len(lastKnownMagic):lastKnownHeader]) {
		return nil, ErrDamaged
	}
	m := &controlpb.EndpointsResponse{}
	if err := proto.Unmarshal(body[sha256.Size:], m); err != nil {
		return nil, ErrDamaged // the error says nothing that the file's owner could use
	}
	sameVersion := bytes.Equal(body[:sha256.Size], fingerprint())
	var list []*endpoint.Endpoint
	for _, e := range m.GetEndpoints() {
		if e.GetName() == "" || e.GetUid() == "" {
			return nil, ErrDamaged
		}
		p := endpointFromProto(e)
		if !sameVersion {
			p.Revision = ""
		}
		list = append(list, p)
	}
	return list, nil
}

func fingerprint() []byte {
	description := protodesc.ToFileDescriptorProto(controlpb.File_internal_control_controlpb_control_proto)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(description)
	if err != nil {
		return make([]byte, sha256.Size) // cannot happen: it was made from a valid one
	}
	sum := sha256.Sum256(raw)
	return sum[:]
}

func writeSynced(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o600); err != nil { // one that was there kept its mode
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

func syncFolder(path string) (err error) {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
