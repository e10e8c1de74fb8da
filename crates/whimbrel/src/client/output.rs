//! [`Output`]: messages on standard output, which may be slow, or gone.

use std::io::{self, IsTerminal};

use tokio::io::{AsyncWriteExt, Stdout};

use super::connection::Voice;
use super::format::{Arrived, Complaint, Destination, Format, Moment, Style};

/// Standard output. While it takes nothing the caller waits, so that no more is read than is shown.
#[derive(Debug)]
pub(crate) struct Output {
    style: Style,
    stdout: Stdout,
    /// Rendered, and not written. Bounded by [`BATCH_BYTES`] and one message.
    pending: Vec<u8>,
    voice: Voice,
}

impl Output {
    pub(crate) fn new(format: &OutputArguments, voice: Voice) -> Self {
        let destination = if io::stdout().is_terminal() {
            Destination::Terminal
        } else {
            Destination::Bytes
        };
        Self {
            style: format.style(destination),
            stdout: tokio::io::stdout(),
            pending: Vec::new(),
            voice,
        }
    }

    /// Adds a message to what is to be written.
    pub(crate) fn render(&mut self, message: &Arrived<'_>) {
        let rendered = self
            .style
            .render(message, &Moment::now(), &mut self.pending);
        if let Err(Complaint::PayloadIsNoJson) = rendered {
            let topic = message.topic.escape_debug();
            self.voice.warn(|| {
                format!("the payload is not valid JSON on topic {topic}; %j shows it as a string")
            });
        }
    }

    /// Enough has come together to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= BATCH_BYTES
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] where the reader has gone, as `head` does.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.stdout.write_all(&self.pending).await?;
        self.stdout.flush().await?;
        self.pending.clear();
        if self.pending.capacity() > 2 * BATCH_BYTES {
            self.pending = Vec::new();
        }
        Ok(())
    }
}

/// How messages are shown.
#[derive(clap::Args, Debug)]
pub(crate) struct OutputArguments {
    /// Show messages in this form, in which %t is the topic, %p the payload and %j all as JSON; the fields are below
    #[arg(short = 'F', long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<Format>,

    /// Show the topic in front of the payload
    #[arg(short = 'v', long)]
    verbose: bool,

    /// Put no end of line behind a message
    #[arg(short = 'N')]
    no_newline: bool,

    /// Lay out the JSON of %j and %J for people
    #[arg(long)]
    pretty: bool,
}

impl OutputArguments {
    fn style(&self, destination: Destination) -> Style {
        use super::format::Layout;

        Style {
            format: self.format.clone(),
            is_verbose: self.verbose,
            has_newline: !self.no_newline,
            json: if self.pretty {
                Layout::Pretty
            } else {
                Layout::Compact
            },
            destination,
        }
    }
}

/// What `--help` of the commands ends with.
pub(crate) const FORMAT_HELP: &str = "\
Fields of a format:
  %t topic           %p payload         %x %X payload in hexadecimal     %l bytes of the payload
  %q QoS             %r retained        %m packet id                     %% a percent sign
  %j JSON            %J JSON with the payload as JSON itself             %A topic alias
  %C content type    %R response topic  %D correlation data              %P user properties
  %E expiry          %F payload format  %S subscription identifier
  %I ISO 8601 time   %U Unix time       @X the %X of strftime(3)         @N nanoseconds   @@ an @
  \\n \\t \\r \\0 \\a \\e \\v characters, \\\\ a backslash
A width may follow the %, as in %20t, %-20t, %08x and %.10t.";

/// Messages that come together are written together, up to this.
const BATCH_BYTES: usize = 64 * 1024;
