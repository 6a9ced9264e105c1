//! The broker alone: `millrace-broker FOLDER [ADDRESS]` prints its bootstrap address and serves until
//! its standard input ends.

use std::io::{Read, Write};

use millrace_broker::{Broker, BrokerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: millrace-broker FOLDER [ADDRESS]")?;
    let mut config = BrokerConfig::new(folder);
    if let Some(address) = arguments.next() {
        config.listen = address.parse()?;
    }
    let broker = Broker::start(config)?;
    writeln!(std::io::stdout(), "{}", broker.bootstrap())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    broker.stop();
    Ok(())
}
