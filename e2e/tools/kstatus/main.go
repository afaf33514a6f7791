// Command kstatus reads Kubernetes objects as JSON, one per line, and prints
// for each the status that kstatus computes, as JSON on a line of its own.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is one printed line.
type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// judge computes the status of one object. The object's own decoder is used
// because it reads whole numbers as int64, which kstatus insists on.
func judge(line []byte) (verdict, error) {
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(line); err != nil {
		return verdict{}, fmt.Errorf("reading an object: %w", err)
	}
	result, err := status.Compute(&object)
	if err != nil {
		return verdict{}, fmt.Errorf("judging %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return verdict{Status: result.Status.String(), Message: result.Message}, nil
}

func run(in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	writer := json.NewEncoder(out)
	for {
		line, err := reader.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			answer, err := judge(line)
			if err != nil {
				return err
			}
			if err := writer.Encode(answer); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}
