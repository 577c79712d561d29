// NVRTC by a host compiler: the source goes, unchanged, through g++ behind `cuda_on_host.h`.
//
// What comes out as "PTX" is a line with the path of a shared library, which the stand-in's driver loads.
// Libraries are kept beside this one, named by the digest of everything that made them.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#ifndef STAND_IN_SOURCE
#error "the folder with cuda_on_host.h"
#endif

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_INPUT = 3,
    INVALID_PROGRAM = 4,
    INVALID_OPTION = 5,
    COMPILATION = 6,
    INTERNAL_ERROR = 11
};

// Undefined behaviour that a device answers with an error or with wrong numbers ends the process with a
// message.
const char* const FLAGS =
    "-std=c++17 -O2 -g1 -w -fPIC -shared -nostartfiles -fvisibility=hidden -Wl,-Bsymbolic "
    "-fno-gnu-unique -fno-exceptions -fno-math-errno -fno-strict-aliasing -ffp-contract=off "
    "-fsanitize=alignment,bounds-strict,integer-divide-by-zero -fno-sanitize-recover=all";

struct Program {
    std::string source, log, ptx;
};

std::string folder() {
    Dl_info own{};
    dladdr(reinterpret_cast<void*>(&folder), &own);
    std::string path = own.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + "kernels/";
}

std::string read(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// FNV-1a.
std::string digest(const std::string& text) {
    uint64_t hash = 0xCBF29CE484222325;
    for (unsigned char byte : text) hash = (hash ^ byte) * 0x100000001B3;
    char name[17];
    snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(hash));
    return name;
}

struct Finished {
    std::string output;
    bool success;
};

Finished run(const std::string& command) {
    Finished finished{"", false};
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return finished;
    char buffer[4096];
    while (size_t count = fread(buffer, 1, sizeof buffer, pipe)) finished.output.append(buffer, count);
    finished.success = pclose(pipe) == 0;
    return finished;
}

std::string quoted(const std::string& word) { return "'" + word + "'"; }

// The compiler's option for one of NVRTC's; false for what neither this nor NVRTC knows.
bool translate(const std::string& option, std::string& flags) {
    static const std::regex taken("(-D|--define-macro=|-I|--include-path=)([^']+)");
    static const std::regex dropped(
        "(--gpu-architecture|-arch|--maxrregcount|--ftz|--prec-sqrt|--prec-div|--fmad|--std|-std)=.+|"
        "--use_fast_math|-use_fast_math|--generate-line-info|-lineinfo|--extra-device-vectorization|"
        "-default-device|--device-as-default-execution-space");
    std::smatch parts;
    if (std::regex_match(option, parts, taken)) {
        flags += (parts[1].str().find('D') == 1 || parts[1] == "--define-macro=" ? " -D" : " -I") +
                 quoted(parts[2]);
        return true;
    }
    return std::regex_match(option, dropped);
}

std::vector<std::string> kernel_names(std::string preprocessed) {
    for (char& c : preprocessed)
        if (c == '\n') c = ' ';
    static const std::regex definition("extern\\s*\"C\"\\s*__global__\\s+void\\s+(\\w+)\\s*\\([^;{]*\\{");
    std::vector<std::string> names;
    for (std::sregex_iterator i(preprocessed.begin(), preprocessed.end(), definition), end; i != end; ++i)
        names.push_back((*i)[1]);
    return names;
}

// Held while this process compiles, so that another one that needs the same waits instead.
struct Lock {
    int file;
    Lock() : file(open((folder() + "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
        flock(file, LOCK_EX);
    }
    ~Lock() { close(file); }
};

// Compiles into `library`; the text of the source stays beside it, for messages name its lines.
bool build(Program& program, const std::string& flags, const std::string& stem, const std::string& library) {
    std::string kernels = stem + ".cu", whole = stem + ".cpp", made = stem + ".part";
    std::string include = "-I" + quoted(STAND_IN_SOURCE) + flags;
    std::ofstream(kernels) << program.source;
    std::ofstream(whole) << "#include \"cuda_on_host.h\"\n#include \"" << kernels << "\"\n";
    Finished listing = run("g++ -E -P -std=c++17 -DHEDDLE_HOST -DSTAND_IN_LIST_KERNELS " + include + " " +
                           quoted(whole) + " 2>&1");
    program.log = listing.success ? "" : listing.output;
    if (!listing.success) return false;
    std::ofstream file(whole, std::ios::app);
    file << "#include \"register.h\"\nstatic const stand_in::Kernel table[] = {\n";
    for (const std::string& name : kernel_names(listing.output)) file << "STAND_IN_KERNEL(" << name << ")\n";
    file << "};\nSTAND_IN_PROGRAM(table)\n";
    file.close();
    Finished compiled = run(std::string("g++ ") + FLAGS + " -DHEDDLE_HOST " + include + " " + quoted(whole) +
                            " -o " + quoted(made) + " 2>&1");
    program.log = compiled.output;
    return compiled.success && rename(made.c_str(), library.c_str()) == 0;
}

}  // namespace

extern "C" {

const char* nvrtcGetErrorString(int result) {
    switch (result) {
        case SUCCESS: return "NVRTC_SUCCESS";
        case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
        case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
        case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        default: return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}

int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return SUCCESS;
}

int nvrtcGetNumSupportedArchs(int* count) {
    *count = 4;
    return SUCCESS;
}

int nvrtcGetSupportedArchs(int* architectures) {
    const int known[] = {80, 86, 89, 90};
    memcpy(architectures, known, sizeof known);
    return SUCCESS;
}

int nvrtcCreateProgram(Program** program, const char* source, const char*, int headers, const char* const*,
                       const char* const*) {
    if (!source || headers != 0) return INVALID_INPUT;
    *program = new Program{source, "", ""};
    return SUCCESS;
}

int nvrtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    if (!program) return INVALID_PROGRAM;
    std::string flags, material = std::string(FLAGS) + program->source;
    for (int i = 0; i < count; i++)
        if (!translate(options[i], flags)) {
            program->log = std::string("the stand-in does not know the option ") + options[i];
            return INVALID_OPTION;
        }
    for (const char* header : {"abi.h", "half.h", "cuda_on_host.h", "tensor_core.h", "register.h"})
        material += read(std::string(STAND_IN_SOURCE "/") + header);
    mkdir(folder().c_str(), 0777);
    Lock lock;
    std::string stem = folder() + digest(material + flags), library = stem + ".so";
    if (access(library.c_str(), R_OK) != 0 && !build(*program, flags, stem, library)) return COMPILATION;
    program->ptx = "// heddle stand-in: " + library + "\n";
    return SUCCESS;
}

int nvrtcGetPTXSize(Program* program, size_t* bytes) {
    *bytes = program->ptx.size() + 1;
    return SUCCESS;
}

int nvrtcGetPTX(Program* program, char* ptx) {
    memcpy(ptx, program->ptx.c_str(), program->ptx.size() + 1);
    return SUCCESS;
}

int nvrtcGetCUBINSize(Program* program, size_t* bytes) { return nvrtcGetPTXSize(program, bytes); }
int nvrtcGetCUBIN(Program* program, char* cubin) { return nvrtcGetPTX(program, cubin); }

int nvrtcGetProgramLogSize(Program* program, size_t* bytes) {
    *bytes = program->log.size() + 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(Program* program, char* log) {
    memcpy(log, program->log.c_str(), program->log.size() + 1);
    return SUCCESS;
}

int stand_in_unsupported(const char* name) {
    fprintf(stderr, "CUDA stand-in: %s is not supported\n", name);
    return INTERNAL_ERROR;
}

}  // extern "C"
