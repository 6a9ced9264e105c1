//! The servers that `infra/servers/servers` runs are what they claim to be.

mod real {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };

    use anyhow::{Context as _, Result, ensure};
    use serde_json::Value;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Asks in Kafka's own protocol which requests it understands (ApiVersions, version 0).
    #[test]
    fn kafka_speaks_its_protocol_and_the_new_group_protocol() -> Result<()> {
        const CORRELATION_ID: i32 = 4711;
        const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
        let address = millrace_servers::kafka()?;
        let mut connection =
            TcpStream::connect(&address).with_context(|| format!("no answer from {address}"))?;
        connection.set_read_timeout(Some(TIMEOUT))?;

        let mut request = Vec::new();
        request.extend(10_i32.to_be_bytes()); // length of what follows
        request.extend(18_i16.to_be_bytes()); // ApiVersions
        request.extend(0_i16.to_be_bytes());
        request.extend(CORRELATION_ID.to_be_bytes());
        request.extend((-1_i16).to_be_bytes()); // no client id
        connection.write_all(&request)?;

        let mut length = [0; 4];
        connection.read_exact(&mut length)?;
        let mut response = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        connection.read_exact(&mut response)?;
        ensure!(
            response.len() > 10,
            "a response of {} bytes",
            response.len()
        );
        ensure!(
            response[..4] == CORRELATION_ID.to_be_bytes(),
            "not an answer to our request: {response:?}"
        );
        ensure!(response[4..6] == [0, 0], "error code {:?}", &response[4..6]);
        // Then a count (4 bytes) and, for each request, key, lowest and highest version (2 bytes each).
        let keys: Vec<i16> = response[10..]
            .chunks_exact(6)
            .map(|api| i16::from_be_bytes([api[0], api[1]]))
            .collect();
        ensure!(
            keys.contains(&CONSUMER_GROUP_HEARTBEAT),
            "older than Kafka 4: it has only the requests {keys:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn opensearch_is_2_19_or_later_with_the_plugins_for_hybrid_search() -> Result<()> {
        let url = millrace_servers::opensearch()?;
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        let about: Value = client
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        ensure!(
            about["version"]["distribution"] == "opensearch",
            "not OpenSearch: {about}"
        );
        let version = about["version"]["number"]
            .as_str()
            .context("no version number")?;
        let mut parts = version.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            anyhow::bail!("version {version}")
        };
        ensure!(
            (major, minor) >= (2, 19),
            "version {version} is older than 2.19"
        );

        let plugins: Vec<Value> = client
            .get(format!("{url}/_cat/plugins?format=json"))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        for wanted in [
            "opensearch-knn",
            "opensearch-neural-search",
            "opensearch-ml",
        ] {
            ensure!(
                plugins.iter().any(|plugin| plugin["component"] == wanted),
                "{wanted} is not among {plugins:?}"
            );
        }
        Ok(())
    }
}
