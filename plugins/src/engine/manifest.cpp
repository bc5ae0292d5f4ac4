#include "manifest.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "failure.h"
#include "json.h"
#include "sha256.h"

namespace serpent::engine {
namespace {

constexpr const char* kExportAgain = "; run serpent-export again, or restore the files as they were exported";
constexpr int64_t kFormatVersion = 1;

// Beyond any GPU's memory, and far from where offsets in bytes overflow 64 bits.
constexpr int64_t kMaxPixels = int64_t{1} << 40;

serpent_engine_range read_range(const Json& profile, const char* name) {
  const Json::Array& sizes = profile.at(name).array(name);
  if (sizes.size() != 3) {
    throw JsonError(std::string("profile.") + name + " has " + std::to_string(sizes.size()) + " sizes, not 3");
  }
  const serpent_engine_range range = {sizes[0].integer(name), sizes[1].integer(name), sizes[2].integer(name)};
  if (!(1 <= range.min && range.min <= range.opt && range.opt <= range.max)) {
    throw JsonError(std::string("profile.") + name + " is not 1 <= min <= opt <= max");
  }
  return range;
}

void read_profile(const Json& profile, Manifest& manifest) {
  manifest.batch = read_range(profile, "batch");
  manifest.height = read_range(profile, "height");
  manifest.width = read_range(profile, "width");
  manifest.multiple = profile.at("multiple").integer("profile.multiple");
  if (manifest.multiple < 1) {
    throw JsonError("profile.multiple is " + std::to_string(manifest.multiple));
  }
  if (manifest.height.max > kMaxPixels / manifest.batch.max ||
      manifest.width.max > kMaxPixels / manifest.batch.max / manifest.height.max) {
    throw JsonError("the profile's largest picture has more than 2^40 pixels");
  }
  for (const auto& side : {manifest.height, manifest.width}) {
    if (side.min % manifest.multiple != 0 || side.max % manifest.multiple != 0) {
      throw JsonError("a side of the profile is no multiple of " + std::to_string(manifest.multiple));
    }
  }
}

const Border& read_border(const Json& fields) {
  const Json::Object& members = fields.object("the manifest");
  const auto io = members.find("io");
  const std::string name = io != members.end() ? io->second.string("io") : std::string(kBorders.front().name);
  const auto found =
      std::find_if(kBorders.begin(), kBorders.end(), [&](const Border& one) { return one.name == name; });
  if (found == kBorders.end()) {
    throw JsonError("io is \"" + name + "\", none of f32-nchw, f16-nchw and u8-nhwc");
  }
  return *found;
}

void read_engine(const Json& engine, Manifest& manifest) {
  manifest.flavour = engine.at("flavour").string("engine.flavour");
  manifest.version = engine.at("version").string("engine.version");
  if (manifest.flavour != "rtx" && manifest.flavour != "trt") {
    throw JsonError("engine.flavour is \"" + manifest.flavour + "\", neither rtx nor trt");
  }
  for (const Json& target : engine.at("targets").array("engine.targets")) {
    manifest.targets.push_back(target.string("a target"));
  }
  const Json& plugin = engine.at("plugin");
  manifest.plugin = {plugin.at("name").string("plugin.name"), plugin.at("version").string("plugin.version"),
                     plugin.at("namespace").string("plugin.namespace"), false};
  const Json::Object& members = plugin.object("plugin");
  if (const auto embedded = members.find("embedded"); embedded != members.end()) {
    manifest.plugin.embedded = embedded->second.boolean("plugin.embedded");
  }
}

void read_fields(const Json& fields, const std::string& plan, Manifest& manifest) {
  manifest.variant = fields.at("variant").string("variant");
  manifest.task = fields.at("task").string("task");
  manifest.precision = fields.at("precision").string("precision");
  manifest.weights = fields.at("weights").string("weights");
  read_profile(fields.at("profile"), manifest);
  manifest.border = &read_border(fields);
  const Json::Object& files = fields.at("files").object("files");
  const auto entry = files.find(plan);
  if (entry == files.end()) {
    std::string listed;
    for (const auto& file : files) {
      listed += (listed.empty() ? "" : ", ") + file.first;
    }
    throw JsonError("it lists " + (listed.empty() ? "no file" : listed) + ", not " + plan);
  }
  manifest.sha256 = entry->second.at("sha256").string("sha256");
  read_engine(entry->second.at("engine"), manifest);
}

// The parts of a manifest's header that say whether the rest can be understood at all.
void check_format(const Json& fields, const std::string& path) {
  const auto* members = std::get_if<Json::Object>(&fields.value);
  const std::string* format = nullptr;
  if (members != nullptr && members->contains("format")) {
    format = std::get_if<std::string>(&fields.at("format").value);
  }
  if (format == nullptr || *format != "serpent-manifest") {
    fail(SERPENT_ENGINE_MODEL_FILE, path + " is no serpent-manifest" + kExportAgain);
  }
  const int64_t version = fields.at("format_version").integer("format_version");
  if (version != kFormatVersion) {
    fail(SERPENT_ENGINE_MODEL_FILE, path + " has manifest version " + std::to_string(version) +
                                        ", this version reads " + std::to_string(kFormatVersion) + kExportAgain);
  }
}

}  // namespace

std::vector<char> read_file(const std::filesystem::path& path, const std::string& what) {
  std::error_code problem;
  const std::filesystem::file_status status = std::filesystem::status(path, problem);
  if (status.type() == std::filesystem::file_type::not_found) {
    fail(SERPENT_ENGINE_MODEL_FILE, what + " " + path.string() + " does not exist" + kExportAgain);
  }
  const auto refuse = [&](const std::string& reason) {
    fail(SERPENT_ENGINE_MODEL_FILE, what + " " + path.string() + " cannot be read: " + reason);
  };
  // Before it is opened, which a pipe would make wait for its other end.
  if (status.type() != std::filesystem::file_type::regular) {
    refuse(problem ? problem.message() : "it is no regular file");
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = stream.tellg();  // -1 where it could not be opened
  if (size < 0) {
    refuse(std::strerror(errno));
  }
  std::vector<char> content(static_cast<std::size_t>(size));
  stream.seekg(0);
  if (!stream.read(content.data(), size)) {
    refuse("it ended early");
  }
  return content;
}

Manifest load_manifest(const std::filesystem::path& plan) {
  Manifest manifest = {};
  manifest.path = plan;
  manifest.path.replace_extension(".json");
  const std::string path = manifest.path.string();
  std::error_code ignored;
  if (!std::filesystem::exists(plan, ignored) && !std::filesystem::exists(manifest.path, ignored)) {
    // Most likely a mistyped path: the manifest is not what is missing.
    fail(SERPENT_ENGINE_MODEL_FILE, "the plan " + plan.string() + " does not exist; write one with serpent-export");
  }
  const std::vector<char> text = read_file(manifest.path, "the manifest");
  try {
    const Json fields = Json::parse({text.data(), text.size()});
    check_format(fields, path);
    read_fields(fields, plan.filename().string(), manifest);
  } catch (const JsonError& error) {
    fail(SERPENT_ENGINE_MODEL_FILE, path + " does not describe this plan: " + error.what() + kExportAgain);
  }
  return manifest;
}

std::vector<char> read_plan(const std::filesystem::path& plan, const Manifest& manifest) {
  std::vector<char> content = read_file(plan, "the plan");
  const std::string digest = sha256(content.data(), content.size());
  if (digest != manifest.sha256) {
    fail(SERPENT_ENGINE_MODEL_FILE, plan.string() + " has sha256 " + digest.substr(0, 16) + "..., its manifest " +
                                        manifest.path.filename().string() + " says " + manifest.sha256.substr(0, 16) +
                                        "...: the file was changed or damaged after its export" + kExportAgain);
  }
  return content;
}

}  // namespace serpent::engine
