// A producer of recordings that knows nothing of Earshot but its public schema.
//
// It puts an audio file into the tenant's folder of the blob store and publishes one AudioUploaded event:
//
//	go run . -brokers 127.0.0.1:9092 -schema ../../schemas/AudioUploaded.avsc -blobs /srv/earshot/blobs talk.wav
//
// With no schema registry, the body is in Avro single-object encoding. The recording's id is left empty: Earshot
// derives it from tenant, ce_source and ce_id, so sending the same event again changes nothing.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/hamba/avro/v2/soe"
	"github.com/twmb/franz-go/pkg/kgo"
)

const tenant = "default"

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "bootstrap servers, comma-separated")
	schemaFile := flag.String("schema", "../../schemas/AudioUploaded.avsc", "the public schema")
	blobs := flag.String("blobs", "", "folder of the blob store (EARSHOT_BLOBS_URL without file://)")
	topic := flag.String("topic", "audio.uploaded", "topic, with its prefix")
	id := flag.String("id", "", "ce_id; by default the file's SHA-256")
	flag.Parse()
	if flag.NArg() != 1 || *blobs == "" {
		log.Fatal("usage: go run . -blobs FOLDER [-brokers HOST:PORT] [-schema FILE] AUDIO")
	}
	uri, digest, size, err := store(*blobs, flag.Arg(0))
	if err != nil {
		log.Fatalf("storing the audio: %v", err)
	}
	body, err := encode(*schemaFile, map[string]any{
		"tenant": tenant, "recording_id": "", "revision": int64(1),
		"uri": uri, "sha256": digest, "size_bytes": size, "media_type": "",
		"title": filepath.Base(flag.Arg(0)), "collection": "default", "language": "en", "priority": "normal",
		"recorded_at": nil, "metadata": map[string]any{"producer": "go"},
	})
	if err != nil {
		log.Fatalf("encoding the event: %v", err)
	}
	if *id == "" {
		*id = digest
	}
	if err := publish(strings.Split(*brokers, ","), *topic, *id, body); err != nil {
		log.Fatalf("publishing: %v", err)
	}
	fmt.Println(*id)
}

// store copies the audio below the tenant's folder and returns its URI, SHA-256 and size.
func store(blobs, path string) (uri, digest string, size int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", 0, err
	}
	sum := sha256.Sum256(data)
	digest = hex.EncodeToString(sum[:])
	target := filepath.Join(blobs, tenant, "incoming", digest)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", "", 0, err
	}
	return "file://" + target, digest, int64(len(data)), os.WriteFile(target, data, 0o644)
}

// encode frames the event: 0xC3 0x01, the schema's CRC-64-AVRO fingerprint, the Avro body.
func encode(schemaFile string, event map[string]any) ([]byte, error) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		return nil, err
	}
	schema, err := avro.Parse(string(text))
	if err != nil {
		return nil, err
	}
	codec, err := soe.NewCodec(schema)
	if err != nil {
		return nil, err
	}
	return codec.Encode(event)
}

// publish waits until the broker has acknowledged the record. The trace headers are optional.
func publish(brokers []string, topic, id string, body []byte) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	record := &kgo.Record{Topic: topic, Key: []byte(id), Value: body, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(id)},
		{Key: "ce_source", Value: []byte("/examples/go-producer")},
		{Key: "ce_type", Value: []byte("earshot.AudioUploaded")},
		{Key: "content-type", Value: []byte("application/avro")},
	}}
	return client.ProduceSync(ctx, record).FirstErr()
}
