import java.io.File;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A consumer of transcripts that knows nothing of Earshot but its public schemas.
 *
 * <p>Prints the transcript of each recording when it is completed, and ends after as many as asked for:
 *
 * <pre>java -cp 'lib/*' TranscriptConsumer.java 127.0.0.1:9092 ../../schemas 1</pre>
 *
 * Events may arrive again and out of order: keep the highest revision of each index, order by index, finish on
 * recordings.completed. A null value deletes its key.
 */
public final class TranscriptConsumer {
  private static final String TRANSCRIPTS = "audio.transcripts";
  private static final String COMPLETED = "recordings.completed";

  private final BinaryMessageDecoder<GenericRecord> transcripts;
  private final BinaryMessageDecoder<GenericRecord> completions;
  private final Map<String, TreeMap<Long, GenericRecord>> segments = new HashMap<>();
  private final Map<String, GenericRecord> ended = new HashMap<>();

  private TranscriptConsumer(File schemas) throws Exception {
    transcripts = decoder(new File(schemas, "SegmentTranscribed.avsc"));
    completions = decoder(new File(schemas, "RecordingCompleted.avsc"));
  }

  private static BinaryMessageDecoder<GenericRecord> decoder(File file) throws Exception {
    return new BinaryMessageDecoder<>(new GenericData(), new Schema.Parser().parse(file));
  }

  public static void main(String[] args) throws Exception {
    String prefix = args.length > 3 ? args[3] : "";
    new TranscriptConsumer(new File(args[1])).run(args[0], Integer.parseInt(args[2]), prefix);
  }

  private void run(String brokers, int wanted, String prefix) throws Exception {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("group.id", "transcript-reader");
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    try (var consumer =
        new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(prefix + TRANSCRIPTS, prefix + COMPLETED));
      int printed = 0;
      while (printed < wanted) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          take(record, prefix);
        }
        printed += printWhole();
        consumer.commitSync();
      }
    }
  }

  private void take(ConsumerRecord<String, byte[]> record, String prefix) throws Exception {
    if (record.topic().equals(prefix + COMPLETED)) {
      GenericRecord end = completions.decode(record.value());
      ended.put(end.get("recording_id").toString(), end);
      return;
    }
    String[] key = record.key().split(":");
    TreeMap<Long, GenericRecord> known = segments.computeIfAbsent(key[0], id -> new TreeMap<>());
    if (record.value() == null) {
      known.remove(Long.valueOf(key[1]));
      return;
    }
    GenericRecord segment = transcripts.decode(record.value());
    known.merge(
        (Long) segment.get("index"),
        segment,
        (old, now) -> (Long) now.get("revision") >= (Long) old.get("revision") ? now : old);
  }

  /** Prints the recordings of which everything has arrived; the two topics are not ordered against each other. */
  private int printWhole() {
    int printed = 0;
    for (GenericRecord end : List.copyOf(ended.values())) {
      String id = end.get("recording_id").toString();
      TreeMap<Long, GenericRecord> known = segments.getOrDefault(id, new TreeMap<>());
      if (known.size() >= (Long) end.get("segments") - (Long) end.get("failed_segments")) {
        StringBuilder text = new StringBuilder(id);
        known.values().forEach(segment -> text.append('\t').append(segment.get("text")));
        System.out.println(text);
        ended.remove(id);
        printed++;
      }
    }
    return printed;
  }
}
