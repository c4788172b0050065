//! How many tokens a media item is taken for, by the rules of a configuration.
//!
//! Formulas and defaults are those of llm-d-router main at ebab6879, `token-producer`, parameters
//! `estimate.image` and `estimate.video`.

/// More tokens than any prefix that is matched: a size read off a picture, or a length off a
/// header, may claim anything.
pub(super) const MAX_TOKENS: u64 = 131_072;

/// How media items are counted; the default is the reference's without parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EstimateRules {
    pub image: ImageRules,
    pub video: VideoRules,
}

/// A picture's size, pixels; both sides above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    pub width: u32,
    pub height: u32,
}

impl Default for Resolution {
    fn default() -> Self {
        Self { width: 640, height: 360 }
    }
}

impl Resolution {
    /// Tokens at `factor` pixels each, at least one.
    fn tokens(self, factor: u64) -> u64 {
        (u64::from(self.width) * u64::from(self.height) / factor.max(1)).max(1)
    }
}

/// Tokens of one picture, or of one frame of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerPicture {
    /// width · height / factor, at least 1.
    Dynamic { factor: u64 },
    /// Always this many, at least 1.
    Static { tokens: u64 },
}

impl Default for PerPicture {
    fn default() -> Self {
        PerPicture::Dynamic { factor: Self::FACTOR }
    }
}

impl PerPicture {
    /// Pixels per token, where nothing else is configured.
    pub const FACTOR: u64 = 1024;

    fn tokens(self, resolution: Resolution) -> u64 {
        match self {
            PerPicture::Dynamic { factor } => resolution.tokens(factor),
            PerPicture::Static { tokens } => tokens.max(1),
        }
    }
}

/// `estimate.image`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageRules {
    pub per_picture: PerPicture,
    /// Of a picture whose size cannot be read, as one given by an address.
    pub default_resolution: Resolution,
}

impl ImageRules {
    /// Tokens of a picture of `size`, if that is known: 1 to 131072.
    pub(super) fn tokens(&self, size: Option<Resolution>) -> u32 {
        let tokens = self.per_picture.tokens(size.unwrap_or(self.default_resolution));
        tokens.min(MAX_TOKENS) as u32
    }
}

/// How many frames of a video count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frames {
    /// duration · fps, of which `merged` make one (2 for models that merge pairs of frames).
    Sampled { fps: f64, merged: u64 },
    /// duration · fps of the video / stride.
    Strided { default_fps: f64, stride: u64 },
}

impl Default for Frames {
    fn default() -> Self {
        Frames::Sampled { fps: 2.0, merged: 1 }
    }
}

/// `estimate.video`: frames · tokens of one frame, at most `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoRules {
    pub per_frame: PerPicture,
    pub frames: Frames,
    /// Bounds of duration · fps; 0 is none.
    pub min_frames: u64,
    pub max_frames: u64,
    /// Where the request does not say.
    pub default_resolution: Resolution,
    /// Seconds, where the request does not say.
    pub default_duration_s: f64,
    /// 0 is no bound.
    pub max_tokens: u64,
}

impl Default for VideoRules {
    fn default() -> Self {
        Self {
            per_frame: PerPicture::default(),
            frames: Frames::default(),
            min_frames: 0,
            max_frames: 0,
            default_resolution: Resolution::default(),
            default_duration_s: 10.0,
            max_tokens: 0,
        }
    }
}

impl VideoRules {
    /// Tokens of a video: 1 to 131072.
    pub(super) fn tokens(&self, hints: &VideoHints) -> u32 {
        let resolution = hints.resolution.unwrap_or(self.default_resolution);
        let tokens = self.frames(hints).saturating_mul(self.per_frame.tokens(resolution));
        let most = if self.max_tokens > 0 { self.max_tokens } else { u64::MAX };
        tokens.min(most).clamp(1, MAX_TOKENS) as u32
    }

    fn frames(&self, hints: &VideoHints) -> u64 {
        let duration_s = hints.duration_s.unwrap_or(self.default_duration_s);
        // Casts of floats saturate, and what is no number becomes 0.
        let (frames, merged) = match self.frames {
            Frames::Sampled { fps, merged } => ((duration_s * fps) as u64, merged),
            Frames::Strided { default_fps, stride } => {
                let fps = hints.fps.unwrap_or(default_fps);
                ((duration_s * fps) as u64 / stride.max(1), 1)
            }
        };
        let most = if self.max_frames > 0 { self.max_frames } else { u64::MAX };
        frames.max(self.min_frames).min(most) / merged.max(1)
    }
}

/// What a request's headers say of its videos.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VideoHints {
    /// Frames a second of the video itself, above 0.
    pub fps: Option<f64>,
    /// Seconds, above 0.
    pub duration_s: Option<f64>,
    pub resolution: Option<Resolution>,
}

impl VideoHints {
    pub const FPS: &str = "x-llm-d-video-fps";
    pub const DURATION: &str = "x-llm-d-video-duration-seconds";
    pub const RESOLUTION: &str = "x-llm-d-video-resolution";

    /// Reads the hints with `header`, which gives the value of a header by its name. What is no
    /// number, not above 0 or without end is left out, and then the configuration's value counts.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Self {
        let number = |name| header(name).and_then(positive);
        Self {
            fps: number(Self::FPS),
            duration_s: number(Self::DURATION),
            resolution: header(Self::RESOLUTION).and_then(resolution),
        }
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

/// Reads `WIDTHxHEIGHT`.
fn resolution(text: &str) -> Option<Resolution> {
    let (width, height) = text.split_once(['x', 'X'])?;
    let side = |text: &str| text.trim().parse().ok().filter(|side: &u32| *side > 0);
    Some(Resolution { width: side(width)?, height: side(height)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HD: Resolution = Resolution { width: 1280, height: 720 };

    #[test]
    fn tokens_of_a_picture() {
        let rules = |per_picture| ImageRules { per_picture, default_resolution: HD };
        let size = |width, height| Some(Resolution { width, height });
        for (rules, size, tokens) in [
            (ImageRules::default(), None, 225),
            (ImageRules::default(), size(1024, 768), 768),
            (ImageRules::default(), size(8, 8), 1),
            (ImageRules::default(), size(u32::MAX, u32::MAX), 131_072),
            (rules(PerPicture::Dynamic { factor: 1024 }), None, 900),
            (rules(PerPicture::Dynamic { factor: 784 }), size(1024, 768), 1003),
            (rules(PerPicture::Static { tokens: 256 }), None, 256),
            (rules(PerPicture::Static { tokens: 256 }), size(1024, 768), 256),
            (rules(PerPicture::Static { tokens: 0 }), None, 1),
        ] {
            assert_eq!(rules.tokens(size), tokens, "{rules:?} {size:?}");
        }
    }

    #[test]
    fn tokens_of_a_video() {
        let default = VideoRules::default();
        let frames = |frames| VideoRules { frames, ..default };
        let none = VideoHints::default();
        let hints = |fps, duration_s| VideoHints { fps, duration_s, resolution: None };
        let strided = frames(Frames::Strided { default_fps: 24.0, stride: 1 });
        for (name, rules, hints, tokens) in [
            ("10 s, 2 a second, 640 x 360", default, none, 4500),
            ("the request's length", default, hints(None, Some(4.0)), 1800),
            ("sampling is the model's, not the video's", default, hints(Some(60.0), None), 4500),
            ("the request's size", default, VideoHints { resolution: Some(HD), ..none }, 18_000),
            ("shorter than a frame", default, hints(None, Some(0.1)), 1),
            ("merged in pairs", frames(Frames::Sampled { fps: 2.0, merged: 2 }), none, 2250),
            ("frames of the video", strided, none, 54_000),
            ("the video's own rate", strided, hints(Some(30.0), Some(2.0)), 13_500),
            (
                "every tenth frame",
                frames(Frames::Strided { default_fps: 24.0, stride: 10 }),
                none,
                5400,
            ),
            ("fewest frames", VideoRules { min_frames: 32, ..default }, none, 7200),
            ("most frames", VideoRules { max_frames: 8, ..default }, none, 1800),
            (
                "bounds are those of the frames before they merge",
                VideoRules {
                    frames: Frames::Sampled { fps: 2.0, merged: 2 },
                    max_frames: 8,
                    ..default
                },
                none,
                900,
            ),
            ("most tokens", VideoRules { max_tokens: 1000, ..default }, none, 1000),
            (
                "tokens of a frame",
                VideoRules { per_frame: PerPicture::Static { tokens: 70 }, ..default },
                none,
                1400,
            ),
            ("for ever", strided, hints(Some(f64::MAX), Some(f64::MAX)), 131_072),
        ] {
            assert_eq!(rules.tokens(&hints), tokens, "{name}");
        }
    }

    #[test]
    fn hints_that_are_no_numbers_are_left_out() {
        for (fps, duration, resolution, expected) in [
            ("", "", "", VideoHints::default()),
            (
                "29.97",
                "1e1",
                "1280x720",
                VideoHints { fps: Some(29.97), duration_s: Some(10.0), resolution: Some(HD) },
            ),
            ("0", "-3", "0x720", VideoHints::default()),
            ("fast", "NaN", "1280", VideoHints::default()),
            ("inf", "1e999", "x720", VideoHints::default()),
            ("24fps", "10s", "1280x720p", VideoHints::default()),
            ("", "", "1280x-720", VideoHints::default()),
            ("", "", "4294967296x1", VideoHints::default()),
            ("", "", " 1280 X 720 ", VideoHints { resolution: Some(HD), ..VideoHints::default() }),
        ] {
            let read = VideoHints::read(|name| match name {
                VideoHints::FPS => Some(fps),
                VideoHints::DURATION => Some(duration),
                VideoHints::RESOLUTION => Some(resolution),
                _ => None,
            });
            assert_eq!(read, expected, "{fps:?} {duration:?} {resolution:?}");
        }
        assert_eq!(VideoHints::read(|_| None), VideoHints::default());
    }
}
