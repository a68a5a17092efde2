// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// oci packs a static binary as an OCI image archive, for machines without a container engine: the same content as the
// Dockerfile's. The same binary gives the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations that tell an importer the image's name: containerd's and the specification's.
const (
	containerdName = "io.containerd.image.name"
	specName       = "org.opencontainers.image.ref.name"
)

func main() {
	reference := flag.String("name", "", "reference of the image, for example webhook-operator/manager:v1.0.0")
	out := flag.String("out", "", "archive to write")
	user := flag.String("user", "", "user and group of the process, for example 65532:65532; root by default")
	certificates := flag.String("ca-certificates", "", "PEM file with the CAs that the binary trusts; none by default")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: oci -name REFERENCE -out FILE [-user UID:GID] [-ca-certificates FILE] BINARY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *reference == "" || *out == "" || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pack(*reference, *out, *user, *certificates, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

func pack(reference, out, user, certificates, binary string) error {
	full, err := fullName(reference)
	if err != nil {
		return err
	}
	image, err := imageOf(user, certificates, binary)
	if err != nil {
		return err
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: image,
		Descriptor: v1.Descriptor{Annotations: map[string]string{containerdName: full, specName: reference},
			Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	folder, err := os.MkdirTemp(filepath.Dir(out), "oci-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if _, err := layout.Write(folder, index); err != nil {
		return err
	}
	archive, err := archived(os.DirFS(folder))
	if err != nil {
		return err
	}
	return os.WriteFile(out, archive, 0o644)
}

// fullName is how a kubelet asks for the image: a name without a registry is Docker Hub's.
func fullName(reference string) (string, error) {
	parsed, err := name.ParseReference(reference)
	if err != nil {
		return "", err
	}
	return strings.Replace(parsed.Name(), name.DefaultRegistry, "docker.io", 1), nil
}

func imageOf(user, certificates, binary string) (v1.Image, error) {
	files := []file{{from: binary, to: filepath.Base(binary), mode: 0o755}}
	if certificates != "" {
		files = append(files, file{from: certificates, to: "etc/ssl/certs/ca-certificates.crt", mode: 0o644})
	}
	content, err := layerOf(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, configOf(image, user, "/"+filepath.Base(binary)))
}

func configOf(image v1.Image, user, entrypoint string) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err) // it was made here
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{entrypoint}, User: user}
	return config
}

type file struct {
	from, to string
	mode     int64
}

// layerOf has no times and no owners but root, so that the same files give the same bytes. Folders come before what is
// in them, and /tmp is there for what expects one.
func layerOf(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, folder := range []struct {
		name string
		mode int64
	}{{"tmp/", 0o1777}, {"etc/", 0o755}, {"etc/ssl/", 0o755}, {"etc/ssl/certs/", 0o755}} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder.name, Mode: folder.mode}); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		content, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		if err := add(w, f.to, f.mode, content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
