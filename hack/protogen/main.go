// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Protogen compiles .proto files and runs protoc plugins over them, so that generating needs a Go module proxy and no
// protoc. The same sources and plugins give the same bytes: neither versions of this program nor paths of the machine
// reach the output.
//
//	go run -C hack/protogen . -root ../.. -plugin bin/protoc-gen-go-v1.36.12 internal/control/controlpb/control.proto
//
// Paths are relative to the root, and the output lies next to its source.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	root := flag.String("root", ".", "folder that the paths of files, imports and plugins are relative to")
	var plugins []string
	flag.Func("plugin", "path of a protoc plugin; may be repeated", func(path string) error {
		plugins = append(plugins, path)
		return nil
	})
	flag.Parse()
	if err := run(*root, plugins, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(root string, plugins, files []string) error {
	if len(plugins) == 0 || len(files) == 0 {
		return errors.New("at least one -plugin and one file are needed")
	}
	request, err := compile(root, files)
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		if err := generate(root, plugin, request); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(plugin), err)
		}
	}
	return nil
}

func compile(root string, files []string) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      proto.String("paths=source_relative"),
	}
	seen := map[string]bool{}
	for _, file := range linked {
		addWithImports(file, seen, &request.ProtoFile)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(request)
}

// addWithImports appends a file after the files that it imports, as plugins expect.
func addWithImports(file protoreflect.FileDescriptor, seen map[string]bool, list *[]*descriptorpb.FileDescriptorProto) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		addWithImports(imports.Get(i).FileDescriptor, seen, list)
	}
	*list = append(*list, protodesc.ToFileDescriptorProto(file))
}

func generate(root, plugin string, request []byte) error {
	cmd := exec.Command("./" + filepath.ToSlash(plugin))
	cmd.Dir = root
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out, response); err != nil {
		return fmt.Errorf("response: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		if !filepath.IsLocal(file.GetName()) {
			return fmt.Errorf("output outside the root: %s", file.GetName())
		}
		if err := os.WriteFile(filepath.Join(root, file.GetName()), []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
