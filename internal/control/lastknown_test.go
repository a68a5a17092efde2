// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestLastKnownComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints")
	if list, err := LoadLastKnown(path); list != nil || err != nil {
		t.Fatalf("without a file: %v, %v; want nothing", list, err)
	}
	if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]*endpoint.Endpoint{many("a", 3), {newEndpoint("a", "one")}, nil} {
		if err := SaveLastKnown(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := LoadLastKnown(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("endpoints (-saved +loaded):\n%s", diff)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600: it has keys in it", mode)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files in the folder, want 1 (%v)", len(entries), err)
	}
}

func TestDamagedLastKnownIsRefused(t *testing.T) {
	content, err := encodeLastKnown(many("a", 2))
	if err != nil {
		t.Fatal(err)
	}
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= 0x20
		if _, err := decodeLastKnown(damaged); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: error %v, want ErrDamaged", i, err)
		}
	}
	for n := range len(content) {
		if _, err := decodeLastKnown(content[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: error %v, want ErrDamaged", n, err)
		}
	}
}

func TestLastKnownOfAnotherVersionIsSentAgain(t *testing.T) {
	content, err := encodeLastKnown(many("a", 1))
	if err != nil {
		t.Fatal(err)
	}
	body := content[lastKnownHeader:]
	body[0] ^= 0xff // the fingerprint
	list, err := decodeLastKnown(withChecksum(body))
	if err != nil || len(list) != 1 || list[0].Revision != "" {
		t.Errorf("list %v, error %v; want one endpoint without a revision", list, err)
	}
}

func withChecksum(body []byte) []byte {
	sum := sha256.Sum256(body)
	return bytes.Join([][]byte{lastKnownMagic, sum[:], body}, nil)
}

// FuzzLastKnown feeds the decoder bytes whose checksum is right, so that the fuzzer gets past it.
func FuzzLastKnown(f *testing.F) {
	content, err := encodeLastKnown([]*endpoint.Endpoint{newEndpoint("a", "one")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content[lastKnownHeader:], true)
	f.Add(content, false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, body []byte, checksum bool) {
		if checksum {
			body = withChecksum(body)
		}
		list, err := decodeLastKnown(body)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error %v is not ErrDamaged", err)
			}
			return
		}
		again, err := encodeLastKnown(list)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := decodeLastKnown(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list, twice); diff != "" {
			t.Errorf("what was loaded is saved as another (-first +second):\n%s", diff)
		}
	})
}
