//! By which rules media items are counted, as the `estimate` of a `token-producer` says it.

use super::{Parameter, parameters};
use crate::api::{EstimateRules, Frames, ImageRules, PerPicture, Resolution, VideoRules};
use crate::config::Fields;

/// The section `estimate`; a number that is not above 0 stands for its default.
pub(super) const PARAMETERS: [Parameter; 2] = [
    Parameter::fields("image", &IMAGE, "tokens of a picture"),
    Parameter::fields("video", &VIDEO, "tokens of a video"),
];

const IMAGE: [Parameter; 4] = [
    picture_mode(),
    Parameter::fields("dynamic", &DYNAMIC, "by the size of the picture"),
    Parameter::fields("static", &STATIC_PICTURE, "as many for each").beside("{mode: static}"),
    Parameter::fields("defaultResolution", &RESOLUTION, "of a picture whose size cannot be read"),
];

const STATIC_PICTURE: [Parameter; 1] =
    [Parameter::integer("staticToken", "of each picture").unit("tokens").default("1")];

const DYNAMIC: [Parameter; 1] =
    [Parameter::integer("factor", "pixels of a token").unit("pixels").default("1024")];

const RESOLUTION: [Parameter; 2] = [
    Parameter::integer("width", "width").unit("pixels").default("640"),
    Parameter::integer("height", "height").unit("pixels").default("360"),
];

const VIDEO: [Parameter; 5] = [
    Parameter::fields("tokensPerFrame", &PER_FRAME, "tokens of a frame, as of a picture"),
    Parameter::fields("frames", &FRAMES, "how many frames count"),
    Parameter::fields("defaultResolution", &RESOLUTION, "of a video that does not say"),
    Parameter::number("defaultDuration", "of a video that does not say").unit("s").default("10.0"),
    Parameter::integer("maxVideoTokens", "the most of a video; without it no bound").unit("tokens"),
];

const PER_FRAME: [Parameter; 3] = [
    picture_mode(),
    Parameter::fields("dynamic", &DYNAMIC, "by the size of the video"),
    Parameter::fields("static", &STATIC_FRAME, "as many for each").beside("{mode: static}"),
];

const STATIC_FRAME: [Parameter; 1] =
    [Parameter::integer("numTokensPerFrame", "of each frame").unit("tokens").default("1")];

const FRAMES: [Parameter; 5] = [
    Parameter::one_of("mode", &["sampled", "strided"], "so many in a second, or each so-manieth")
        .default("sampled"),
    Parameter::fields("sampled", &SAMPLED, "duration · sampleFPS / temporalPatchSize"),
    Parameter::fields("strided", &STRIDED, "duration · fps / frameStride")
        .beside("{mode: strided}"),
    Parameter::integer("minFrames", "the fewest; without it no bound").unit("frames"),
    Parameter::integer("maxFrames", "the most; without it no bound").unit("frames"),
];

const SAMPLED: [Parameter; 2] = [
    Parameter::number("sampleFPS", "frames of a second").unit("1/s").default("2.0"),
    Parameter::integer("temporalPatchSize", "frames taken together").unit("frames").default("1"),
];

const STRIDED: [Parameter; 2] = [
    Parameter::number("defaultSourceFPS", "frames that a second has").unit("1/s").default("24.0"),
    Parameter::integer("frameStride", "one frame in so many counts").unit("frames").default("1"),
];

const fn picture_mode() -> Parameter {
    Parameter::one_of("mode", &["dynamic", "static"], "by the size, or as many for each")
        .default("dynamic")
}

/// Reads the section `estimate`.
pub(super) fn read(mut section: Fields<'_>) -> EstimateRules {
    let rules = EstimateRules {
        image: image(section.nested("image")),
        video: video(section.nested("video")),
    };
    section.finish();
    rules
}

// As in the reference, a number that is not above 0 stands for the default.

fn image(mut p: Fields<'_>) -> ImageRules {
    let rules = ImageRules {
        per_picture: per_picture(&mut p, "staticToken"),
        default_resolution: resolution(&mut p),
    };
    p.finish();
    rules
}

fn video(mut p: Fields<'_>) -> VideoRules {
    let default = VideoRules::default();
    let mut per_frame = p.nested("tokensPerFrame");
    let mut frames = p.nested("frames");
    let rules = VideoRules {
        per_frame: per_picture(&mut per_frame, "numTokensPerFrame"),
        min_frames: parameters::positive(&mut frames, "minFrames", default.min_frames),
        max_frames: parameters::positive(&mut frames, "maxFrames", default.max_frames),
        frames: frame_mode(&mut frames),
        default_resolution: resolution(&mut p),
        default_duration_s: positive(&mut p, "defaultDuration", default.default_duration_s),
        max_tokens: parameters::positive(&mut p, "maxVideoTokens", default.max_tokens),
    };
    per_frame.finish();
    frames.finish();
    p.finish();
    rules
}

/// `mode`, and the parameter of each mode; `static_name` is the static one's.
fn per_picture(p: &mut Fields<'_>, static_name: &'static str) -> PerPicture {
    let is_static = mode(p, "dynamic", "static");
    let mut of_static = p.nested("static");
    let tokens = parameters::positive(&mut of_static, static_name, 1);
    of_static.finish();
    let mut of_dynamic = p.nested("dynamic");
    let factor = parameters::positive(&mut of_dynamic, "factor", PerPicture::FACTOR);
    of_dynamic.finish();
    if is_static { PerPicture::Static { tokens } } else { PerPicture::Dynamic { factor } }
}

fn frame_mode(p: &mut Fields<'_>) -> Frames {
    let is_strided = mode(p, "sampled", "strided");
    let mut sampled = p.nested("sampled");
    let fps = positive(&mut sampled, "sampleFPS", 2.0);
    let merged = parameters::positive(&mut sampled, "temporalPatchSize", 1);
    sampled.finish();
    let mut strided = p.nested("strided");
    let default_fps = positive(&mut strided, "defaultSourceFPS", 24.0);
    let stride = parameters::positive(&mut strided, "frameStride", 1);
    strided.finish();
    if is_strided {
        Frames::Strided { default_fps, stride }
    } else {
        Frames::Sampled { fps, merged }
    }
}

/// True where `mode` is `other`.
fn mode(p: &mut Fields<'_>, default: &str, other: &str) -> bool {
    let mode = p.string("mode").filter(|mode| !mode.is_empty()).unwrap_or(default);
    if mode != default && mode != other {
        p.error("mode", format!("must be '{default}' or '{other}'"));
    }
    mode == other
}

fn resolution(p: &mut Fields<'_>) -> Resolution {
    let default = Resolution::default();
    let mut p = p.nested("defaultResolution");
    let resolution = Resolution {
        width: parameters::positive_u32(&mut p, "width", default.width),
        height: parameters::positive_u32(&mut p, "height", default.height),
    };
    p.finish();
    resolution
}

fn positive(p: &mut Fields<'_>, name: &'static str, default: f64) -> f64 {
    p.float(name).filter(|number| *number > 0.0).unwrap_or(default)
}
