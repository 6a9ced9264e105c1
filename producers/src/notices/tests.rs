//! Bodies as the four senders really write them.

use super::*;
use proptest::prelude::*;

const OSS_MNS: &str = r#"{"events":[{"eventName":"ObjectCreated:PutObject","eventSource":"acs:oss","eventTime":"2017-04-21T12:46:37.000Z","eventVersion":"1.0","oss":{"bucket":{"arn":"acs:oss:cn-shanghai:123456789:bucketname","name":"testbucket","ownerIdentity":"123456789","virtualBucket":""},"object":{"deltaSize":122539,"eTag":"688A7BF4F233DC9C88A80BF985AB7329","key":"image/a.jpg","size":122539},"ossSchemaVersion":"1.0","ruleId":"9adac8e253828f4f7c0466d941fa3db81161e853"},"region":"cn-shanghai","requestParameters":{"sourceIPAddress":"140.205.128.221"},"responseElements":{"requestId":"58F9FF2D3DF792092E12044C"},"userIdentity":{"principalId":"262561392693583141"},"xVars":{}}]}"#;
const OSS_MNS_NESTED_DELETE: &str = r#"{"events":[{"eventName":"ObjectRemoved:DeleteObject","eventSource":"acs:oss","eventTime":"2017-04-21T12:50:00.000Z","eventVersion":"1.0","oss":{"bucket":{"arn":"acs:oss:cn-shanghai:123456789:testbucket","name":"testbucket","ownerIdentity":"123456789","virtualBucket":""},"object":{"deltaSize":-122539,"eTag":"688A7BF4F233DC9C88A80BF985AB7329","key":"报告/a b#%.txt","size":122539},"ossSchemaVersion":"1.0","ruleId":"r","region":"cn-shanghai","requestParameters":{"sourceIPAddress":"140.205.128.221"},"responseElements":{"requestId":"58F9FF2D3DF792092E12044C"},"userIdentity":{"principalId":"262561392693583141"},"xVars":{}}}]}"#;
const EVENTBRIDGE: &str = r#"{"datacontenttype":"application/json;charset=utf-8","aliyunaccountid":"1648195667442250","data":{"eventVersion":"1.0","responseElements":{"requestId":"5F3A3A2E13A59B3932AD9C1E"},"eventSource":"acs:oss","eventTime":"2020-08-17T08:04:46.000Z","requestParameters":{"sourceIPAddress":"140.205.128.221"},"eventName":"ObjectCreated:PutObject","userIdentity":{"principalId":"262561392693583141"},"region":"cn-hangzhou","oss":{"bucket":{"name":"bucketname","arn":"acs:oss:cn-hangzhou:1648195667442250:bucketname","virtualBucket":"","ownerIdentity":"1648195667442250"},"ossSchemaVersion":"1.0","object":{"size":13,"deltaSize":13,"eTag":"D41D8CD98F00B204E9800998ECF8427E","key":"docs/guide.md"}}},"subject":"acs:oss:cn-hangzhou:1648195667442250:bucketname/docs/guide.md","source":"acs.oss","type":"oss:ObjectCreated:PutObject","aliyunpublishtime":"2020-08-17T16:04:47.149Asia/Shanghai","specversion":"1.0","aliyuneventbusname":"default","id":"5f3a3a2e-13a5-9b39-32ad-9c1e0a000001","time":"2020-08-17T16:04:46.149Asia/Shanghai","aliyunregionid":"cn-hangzhou"}"#;
const S3: &str = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:00.000Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"AIDAJDPLRKLG7UEXAMPLE"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810"},"s3":{"s3SchemaVersion":"1.0","configurationId":"testConfigRule","bucket":{"name":"amzn-s3-demo-bucket","ownerIdentity":{"principalId":"A3NL1KOZZKExample"},"arn":"arn:aws:s3:::amzn-s3-demo-bucket"},"object":{"key":"Happy+Face%2B%C3%BC%23.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko","sequencer":"0055AED6DCD90281E5"}}},{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"2024-05-01T10:00:00.123Z","eventName":"ObjectRemoved:DeleteMarkerCreated","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"amzn-s3-demo-bucket"},"object":{"key":"old.txt","eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"0055AED6DCD90281E6"}}}]}"#;
const MINIO: &str = r#"{"EventName":"s3:ObjectCreated:Put","Key":"images/my photo.txt","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"","eventTime":"2024-05-01T10:00:00.123Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"minio"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},"responseElements":{"x-minio-origin-endpoint":"http://127.0.0.1:9000"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"images","ownerIdentity":{"principalId":"minio"},"arn":"arn:aws:s3:::images"},"object":{"key":"my+photo.txt","size":5,"eTag":"acbd18db4cc2f85cedef654fccc4a4d8","contentType":"text/plain","userMetadata":{"content-type":"text/plain"},"sequencer":"15A2"}},"source":{"host":"127.0.0.1","port":"","userAgent":"MinIO"}}]}"#;
const MINIO_DELETE: &str = r#"{"EventName":"s3:ObjectRemoved:Delete","Key":"images/my photo.txt","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"","eventTime":"2024-05-01T10:01:00Z","eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"images"},"object":{"key":"my+photo.txt","sequencer":"15A3"}}}]}"#;

fn entries(body: &str) -> (NoticeFormat, Vec<Entry>) {
    let recognised = recognise(body.as_bytes()).unwrap();
    (recognised.format, recognised.entries)
}

fn notices(body: &str) -> (NoticeFormat, Vec<DocumentNotice>) {
    let (format, entries) = entries(body);
    let notice = |entry| match entry {
        Entry::Notice(notice) => *notice,
        other => panic!("{other:?}"),
    };
    (format, entries.into_iter().map(notice).collect())
}

fn reason(body: &str) -> EntryError {
    match entries(body).1.pop() {
        Some(Entry::Malformed(entry)) => {
            assert!(!entry.raw.is_empty());
            entry.reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn oss_through_mns() {
    let expected = DocumentNotice {
        uri: "oss://testbucket/image/a.jpg".into(),
        event: DocumentEvent::Created,
        event_time_ms: 1_492_778_797_000,
        etag: Some("688A7BF4F233DC9C88A80BF985AB7329".into()),
        size_bytes: Some(122_539),
        media_type: None,
        content: None,
        title: None,
        layout: Layout::Document,
        metadata: std::collections::BTreeMap::new(),
        min_version: None,
        source: "http".into(),
    };
    let encoded = STANDARD.encode(OSS_MNS);
    let wrapped: String = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| format!("{}\r\n", std::str::from_utf8(line).unwrap()))
        .collect();
    let topic_message = serde_json::json!({"TopicOwner": "1", "TopicName": "t", "Message": encoded, "MessageMD5": "x"});
    for body in [
        OSS_MNS,
        &encoded,
        encoded.trim_end_matches('='),
        &wrapped,
        &topic_message.to_string(),
    ] {
        assert_eq!(
            notices(body),
            (NoticeFormat::OssMns, vec![expected.clone()])
        );
    }
}

#[test]
fn oss_through_mns_removal_with_all_nested() {
    let (_, removed) = notices(OSS_MNS_NESTED_DELETE);
    assert_eq!(removed[0].event, DocumentEvent::Removed);
    assert_eq!(
        removed[0].uri,
        "oss://testbucket/%E6%8A%A5%E5%91%8A/a%20b%23%25.txt"
    );
    assert_eq!(
        (removed[0].etag.as_ref(), removed[0].size_bytes),
        (None, None)
    );
}

#[test]
fn oss_through_eventbridge() {
    let (format, single) = notices(EVENTBRIDGE);
    assert_eq!(format, NoticeFormat::OssEventBridge);
    assert_eq!(single[0].uri, "oss://bucketname/docs/guide.md");
    // The data's own time, not the envelope's.
    assert_eq!(single[0].event_time_ms, 1_597_651_486_000);
    assert_eq!(
        notices(&format!("[{EVENTBRIDGE},{EVENTBRIDGE}]")).1.len(),
        2
    );

    let without_own = EVENTBRIDGE.replace(r#""eventTime":"2020-08-17T08:04:46.000Z","#, "");
    assert_eq!(notices(&without_own).1[0].event_time_ms, 1_597_651_486_149);

    let mut as_text: serde_json::Value = serde_json::from_str(EVENTBRIDGE).unwrap();
    as_text["data"] = as_text["data"].to_string().into();
    assert_eq!(notices(&as_text.to_string()).1, single);
    as_text["data_base64"] = STANDARD.encode(as_text["data"].as_str().unwrap()).into();
    as_text.as_object_mut().unwrap().remove("data");
    assert_eq!(notices(&as_text.to_string()).1, single);

    let removed = EVENTBRIDGE.replace(
        "oss:ObjectCreated:PutObject",
        "oss:ObjectRemoved:DeleteObjects",
    );
    assert_eq!(notices(&removed).1[0].event, DocumentEvent::Removed);
}

#[test]
fn s3_records() {
    let (format, records) = notices(S3);
    assert_eq!(format, NoticeFormat::S3);
    assert_eq!(
        records[0].uri,
        "s3://amzn-s3-demo-bucket/Happy%20Face+%C3%BC%23.jpg"
    );
    assert_eq!(
        (
            records[0].event,
            records[0].event_time_ms,
            records[0].size_bytes
        ),
        (DocumentEvent::Created, 0, Some(1024))
    );
    assert_eq!(
        (records[1].event, records[1].event_time_ms),
        (DocumentEvent::Removed, 1_714_557_600_123)
    );
    let sns = serde_json::json!({"Type": "Notification", "Message": S3}).to_string();
    assert_eq!(notices(&sns).1, records);
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"b"}"#;
    assert!(matches!(&entries(test).1[..], [Entry::Ignored { .. }]));
}

#[test]
fn minio_records() {
    let (format, created) = notices(MINIO);
    assert_eq!(format, NoticeFormat::MinIo);
    assert_eq!(created[0].uri, "s3://images/my%20photo.txt");
    assert_eq!(created[0].media_type.as_deref(), Some("text/plain"));
    assert_eq!(notices(MINIO_DELETE).1[0].event, DocumentEvent::Removed);
    let tagging = MINIO.replace("s3:ObjectCreated:Put\"", "s3:ObjectCreated:PutTagging\"");
    assert!(
        matches!(&entries(&tagging).1[..], [Entry::Ignored { event_type }] if event_type == "ObjectCreated:PutTagging")
    );
}

#[test]
fn what_changes_no_content_is_ignored() {
    for event in [
        "ObjectCreated:InitiateMultipartUpload",
        "ObjectCreated:UploadPart",
        "ObjectCreated:PutSymlink",
        "ObjectRemoved:AbortMultipartUpload",
    ] {
        for body in [
            OSS_MNS.replace("ObjectCreated:PutObject", event),
            EVENTBRIDGE.replace("ObjectCreated:PutObject", event),
        ] {
            assert!(
                matches!(&entries(&body).1[..], [Entry::Ignored { event_type }] if event_type == event),
                "{event}"
            );
        }
    }
    let folder = OSS_MNS.replace("image/a.jpg", "image/");
    assert!(matches!(&entries(&folder).1[..], [Entry::Ignored { .. }]));
}

#[test]
fn a_malformed_entry_costs_none_of_its_neighbours() {
    let good = OSS_MNS
        .strip_prefix(r#"{"events":["#)
        .unwrap()
        .strip_suffix("]}")
        .unwrap();
    let body = format!(r#"{{"events":[{good},{{"eventName": 7}},{good}]}}"#);
    let (_, entries) = entries(&body);
    assert!(
        matches!(&entries[..], [Entry::Notice(_), Entry::Malformed(bad), Entry::Notice(_)]
        if bad.index == 1 && bad.raw == br#"{"eventName": 7}"# && bad.reason.error_type() == "malformed_notice")
    );
}

#[test]
fn each_defect_has_its_reason() {
    for (body, error_type) in [
        (
            OSS_MNS.replace("ObjectCreated:PutObject", "ObjectReplicated:Now"),
            "unknown_event_type",
        ),
        (
            EVENTBRIDGE.replace("oss:ObjectCreated", "ecs:Instance"),
            "unknown_event_type",
        ),
        (
            S3.replace("ObjectRemoved:DeleteMarkerCreated", "ObjectAcl:Put"),
            "unknown_event_type",
        ),
        (
            OSS_MNS.replace("2017-04-21T12:46:37.000Z", "yesterday"),
            "invalid_event_time",
        ),
        (
            OSS_MNS.replace("image/a.jpg", "../a.jpg"),
            "invalid_object_name",
        ),
        (OSS_MNS.replace("image/a.jpg", ""), "invalid_object_name"),
        (S3.replace("old.txt", "old%2.txt"), "invalid_object_name"),
        (S3.replace("old.txt", "old%FF.txt"), "invalid_object_name"),
        (OSS_MNS.replace("\"name\"", "\"nome\""), "malformed_notice"),
        (
            EVENTBRIDGE.replace("\"data\"", "\"datum\""),
            "malformed_notice",
        ),
    ] {
        let reason = reason(&body);
        assert_eq!(reason.error_type(), error_type, "{reason}");
    }
}

#[test]
fn a_body_of_no_known_shape_says_what_was_expected() {
    for (body, part) in [
        ("", "neither JSON"),
        ("not json", "neither JSON"),
        ("{\"events\":", "neither JSON"),
        ("<Notification/>", "SIMPLIFIED"),
        ("{}", "`Records`"),
        ("{\"Message\":\"hello\"}", "neither JSON"),
    ] {
        let error = recognise(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{body}: {error}");
    }
    // As deep as one likes: no more than two envelopes are opened.
    let mut nested = OSS_MNS.to_owned();
    for _ in 0..5 {
        nested = serde_json::json!({ "Message": nested }).to_string();
    }
    assert!(matches!(
        recognise(nested.as_bytes()),
        Err(BodyError::Unknown)
    ));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = recognise(&bytes);
    }

    /// Bytes that come close: a real body with a part replaced.
    #[test]
    fn no_damaged_body_panics(which in 0usize..6, at in any::<prop::sample::Index>(), length in 0usize..40, with in "\\PC{0,20}") {
        let body = [OSS_MNS, OSS_MNS_NESTED_DELETE, EVENTBRIDGE, S3, MINIO, MINIO_DELETE][which].as_bytes();
        let at = at.index(body.len());
        let damaged = [&body[..at], with.as_bytes(), &body[(at + length).min(body.len())..]].concat();
        let _ = recognise(&damaged);
        let _ = recognise(STANDARD.encode(&damaged).as_bytes());
    }
}
